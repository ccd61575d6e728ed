// The parts of three.js that pages use; tools/vendor_web.py makes one script of them.
export {
  AmbientLight, Color, DirectionalLight, MeshBasicMaterial, PerspectiveCamera, Scene, Sphere, Box3, Vector3, WebGLRenderer,
} from "three";
export { OrbitControls } from "three/addons/controls/OrbitControls.js";
export { GLTFLoader } from "three/addons/loaders/GLTFLoader.js";
