"""Words that are wrong, one a line, with Python's escapes."""

from __future__ import annotations


def _lines(text: str) -> list[str]:
    return [line.encode("ascii").decode("unicode_escape") for line in text.split("\n")[1:-1]]


OVERRIDES = _lines(r"""
=
a
=1
a.
.a=1
a..b=1
system.=1
system..geometry=1
--x
-x=1
system.geometry.radius.x=1
system.geometry[0]=1
data.x[=1
name=${tag}
tag=${name}
name=${oc.env:HOME}/../..
seed=${seed}
system=null
data=null
data=[]
system=3
trainer=[1]
checkpoint=abc
system.geometry=null
system.prompt_processor=null
system.guidance=null
system.guidance_type=null
system_type=null
system_type=[1]
data_type={a: 1}
system.geometry_type=pullback-system
system.renderer_type=mesh-exporter
system.guidance_type=random-camera-datamodule
system.material_type=volume-grid
data_type=volume-grid
system_type=volume-grid
seed=1_0_0_0_0_0_0_0_0_0_0_0
seed=1e3
seed=true
seed=null
name=a/../../b
name=/etc
exp_root_dir=/dev/null
exp_root_dir=a\x00b
name=a\x00b
tag=\ud800
resume=.
resume=/dev/zero
resume=
resume=[1]
system.weights=/
system.geometry.weights=a:b
system.geometry.weights=:
system.background.base=&a [*a]
data=&a {b: *a}
data.width=!!int abc
system.loggers={wandb: 3}
system.loggers=[1]
system.exporter_type=volume-grid
system.guidance.noise={type: [1]}
system.guidance.noise={type: {a: 1}}
system.guidance.noise=[]
system.guidance.constraint={type: repaint, cycles: x}
system.guidance.constraint={1: 2}
system.guidance.guidance_policy={type: interval, sigma_low: x}
system.guidance.guidance_policy=[always]
trainer.max_time=abc
trainer.limit_test_batches=-1
trainer.accumulate_grad_batches=0
trainer.strategy=x
trainer.profiler=x
trainer.fast_dev_run=x
trainer.overfit_batches=2.5
trainer.gradient_clip_val=abc
trainer.callbacks=[1]
trainer.accelerator=abc
trainer.benchmark=x
trainer.limit_train_batches=-2
checkpoint.every_n_train_steps=-1
checkpoint.save_top_k=-5
checkpoint.monitor=x
checkpoint.dirpath=/
checkpoint.filename=../../x
checkpoint.filename={a}
checkpoint.every_n_epochs=x
checkpoint.mode=x
""")

PROMPTS = _lines(r"""

\x20
\t\n
\x00
a\x00b
\ufeff
lib:
lib:x
lib:../x
${a}
${
???
null
~
'
''
""
\ud800
a \ud83d
\u202e
[1
{a
-\x20
!!str
&a
*a
'a
""")

OPTIONS = _lines(r"""

nothing
launch
launch --train
launch --config
demo --seed x
demo --seed -1
demo --seed 1e3
demo --prompt
demo --out /dev/null
demo x
demo --import none
demo --import ''
plan
plan --config none.yaml
plan --config configs/pullback-nerf-tiny.yaml --card none
plan --config configs/pullback-nerf-tiny.yaml --tflops nan
plan --config configs/pullback-nerf-tiny.yaml --model-config none
plan --config configs/pullback-nerf-tiny.yaml data.width=x
plan --config /
plan --config configs/pullback-nerf-tiny.yaml --tflops x
compare
compare --prompts x --methods none
compare --prompts x --methods ,
compare --prompts x --budget 3
compare --prompts x --budget nfe=nan
compare --prompts x --budget nfe=-1
compare --prompts x --seeds 3-1
compare --prompts x --seeds x
compare --prompts x --workers 0
compare --prompts x --settings none.yaml
compare --prompts x --config none.yaml
compare --prompts x --clip none
compare --prompts x --tune x
compare --prompts x --tune lr=
compare --prompts x --threestudio none
compare --world none
compare --world shapes x
compare --prompts x --import none
compare --prompts x --out /dev/null/a
compare --prompts x a.b.c
compare --prompts x system.guidance=3
compare --prompts x --methods /
report
report none
report /
evaluate
evaluate none
evaluate prompts --prompts 99
evaluate prompts --config none
evaluate prompts --seeds x
evaluate worlds --world none
evaluate worlds --method none
evaluate worlds --method 'pullback x=1'
evaluate worlds --method 'pullback levels=x'
evaluate worlds --denoiser x
evaluate worlds --method ''
evaluate diversity --prompts none
evaluate diversity --model none
evaluate diversity --pictures 0
evaluate model --scales x
evaluate model --model none
evaluate model --samples 0
evaluate images --scales ,
evaluate images --few -1
evaluate images --samples 0
evaluate images x=1
evaluate images levels=x
evaluate images --model none
evaluate images --workers 0
evaluate images levels=-1
evaluate images --scales nan
evaluate model --scales nan
evaluate worlds --seeds 99999999999999999999999
demo --seed 99999999999999999999
evaluate images --seed -1
evaluate model --seed -5
""")

OVERRIDES += ["name=" + "a" * 5000, "tag=" + "/" * 300, "data=" + "[" * 3000]
PROMPTS += ["a" * 10**5, "word " * 50000]
