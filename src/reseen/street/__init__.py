"""The drawn street: people with known identities as crops and in scenes, for demo and tests; composites of real crops.

Flat vector pedestrians before four cameras that differ in background, colours, noise and the side that they
see. Eight outfits (colours) are shared by all identities: texture, bag, hat, hair and build tell them
apart. Boxes of crops are loose on purpose (``box_jitter``): with tight ones an untrained thumbnail recognises
people as well as a trained network, and a comparison on them would mislead.

Everything is a function of the seed. A street is drawn once: a finished folder is read, not drawn again.
"""

from reseen.street.composite_frames import Composition
from reseen.street.composites import compose
from reseen.street.crops import draw_crops
from reseen.street.scenes import draw_scenes
from reseen.street.walks import DrawnFrame, draw_walks

__all__ = ["Composition", "DrawnFrame", "compose", "draw_crops", "draw_scenes", "draw_walks"]
