import numpy as np
from runner.stages.evaluate.metrics import overlaps


def caught(picture, box, suspects, labelled):
    for s in suspects:
        if s.picture != picture:
            continue
        own = labelled[picture].xyxy_px[s.label] if s.label is not None else s.place.xyxy_px
        if overlaps(np.asarray([box], float), np.asarray([own], float))[0, 0] >= 0.5:
            return True
    return False
