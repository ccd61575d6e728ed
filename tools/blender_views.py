"""Pictures of a mesh file as Blender opens it; for a Python that has bpy, which need not have this project.

    python -m venv /tmp/blender && /tmp/blender/bin/pip install bpy
    /tmp/blender/bin/python tools/blender_views.py model.glb pictures '[[0, 0], [0, 90], [90, 0]]' none

Arguments: a glb, obj or ply; a folder; views (elevation, azimuth) in degrees, azimuth 0 in front of the object;
"none" for the colours as they are, "lamps" for the file's materials under a sun at the camera. Prints what was
imported, as JSON.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import bpy  # pyright: ignore[reportMissingImports]
from mathutils import Vector  # pyright: ignore[reportMissingImports]

SIZE, DISTANCE, FOVY, GREY = 256, 2.4, 40, 0.5


def load(file: Path) -> Any:
    bpy.ops.wm.read_factory_settings(use_empty=True)
    kind = file.suffix
    if kind == ".glb":
        bpy.ops.import_scene.gltf(filepath=str(file))
    else:
        (bpy.ops.wm.obj_import if kind == ".obj" else bpy.ops.wm.ply_import)(filepath=str(file))
    (mesh,) = (o for o in bpy.context.scene.objects if o.type == "MESH")
    return mesh


def described(mesh: Any) -> dict[str, Any]:
    corners = [mesh.matrix_world @ vertex.co for vertex in mesh.data.vertices]
    found: dict[str, Any] = {
        "blender": bpy.app.version_string,
        "triangles": len(mesh.data.polygons),
        "box": [[round(f(c[i] for c in corners), 3) for i in range(3)] for f in (min, max)],
        "colour attributes": [a.name for a in mesh.data.color_attributes],
        "materials": [],
    }
    for slot in mesh.material_slots:
        shader = next(n for n in slot.material.node_tree.nodes if n.type == "BSDF_PRINCIPLED")
        colour = shader.inputs["Base Color"]
        found["materials"].append(
            {
                "metallic": shader.inputs["Metallic"].default_value,
                "roughness": shader.inputs["Roughness"].default_value,
                "colour from": colour.links[0].from_node.type if colour.links else list(colour.default_value),
            }
        )
    return found


def shine(mesh: Any) -> None:
    """Replaces the material's shader by an emission of its colour; without one, of the vertices' colours."""
    if not mesh.material_slots:
        mesh.data.materials.append(bpy.data.materials.new("colours"))
    material = mesh.material_slots[0].material
    material.use_nodes = True
    tree = material.node_tree
    shader = next(n for n in tree.nodes if n.type == "BSDF_PRINCIPLED")
    links = shader.inputs["Base Color"].links
    if links:
        source = links[0].from_socket
    else:
        node = tree.nodes.new("ShaderNodeVertexColor")
        node.layer_name = mesh.data.color_attributes[0].name
        source = node.outputs["Color"]
    emission = tree.nodes.new("ShaderNodeEmission")
    tree.links.new(source, emission.inputs["Color"])
    tree.links.new(emission.outputs[0], next(n for n in tree.nodes if n.type == "OUTPUT_MATERIAL").inputs["Surface"])


def pictures(folder: Path, views: list[list[float]], lit: str) -> None:
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.cycles.samples = 16
    scene.cycles.use_denoising = False
    scene.render.resolution_x = scene.render.resolution_y = SIZE
    scene.view_settings.view_transform = "Standard"
    scene.world = bpy.data.worlds.new("grey")
    scene.world.use_nodes = True
    linear = ((GREY + 0.055) / 1.055) ** 2.4
    behind = next(n for n in scene.world.node_tree.nodes if n.type == "BACKGROUND")
    behind.inputs["Color"].default_value = (linear, linear, linear, 1)
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    camera.data.sensor_fit, camera.data.angle = "VERTICAL", math.radians(FOVY)
    sun = bpy.data.objects.new("sun", bpy.data.lights.new("sun", "SUN"))
    sun.data.energy = math.pi if lit == "lamps" else 0
    for part in (camera, sun):
        scene.collection.objects.link(part)
        part.rotation_mode = "QUATERNION"
    scene.camera = camera
    for i, (elevation, azimuth) in enumerate(views):
        e, a = math.radians(elevation), math.radians(azimuth)
        # Blender's front view looks from −y, its right view from +x
        towards = Vector((math.cos(e) * math.sin(a), -math.cos(e) * math.cos(a), math.sin(e)))
        up = Vector((-math.sin(e) * math.sin(a), math.sin(e) * math.cos(a), math.cos(e)))
        right = up.cross(towards)
        turn = (right, up, towards)
        for part in (camera, sun):
            part.location = DISTANCE * towards
            matrix = part.matrix_world.to_3x3()
            for row in range(3):
                for column in range(3):
                    matrix[row][column] = turn[column][row]
            part.rotation_quaternion = matrix.to_quaternion()
        scene.render.filepath = str(folder / f"{i}.png")
        bpy.ops.render.render(write_still=True)


if __name__ == "__main__":
    path, out, what, how = sys.argv[1:]
    imported = load(Path(path))
    print("imported " + json.dumps(described(imported)))
    if how == "none":
        shine(imported)
    Path(out).mkdir(parents=True, exist_ok=True)
    pictures(Path(out).resolve(), json.loads(what), how)
