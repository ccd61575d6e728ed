"""Stand-in for controlnet_aux."""

from pullback.cuda_standins.absent import stand_in

stand_in(__name__, "install it: pip install controlnet_aux")
