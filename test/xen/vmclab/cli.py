import sys
from . import image
from .util import Fail, Progress
def main():
    p = Progress()
    try:
        print(image.build(sys.argv[2:] or ["6.1"], p)); print(p.breakdown())
    except Fail as e:
        print("lab:", e, file=sys.stderr); return e.status
