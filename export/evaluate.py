"""`alexnet-evaluate`: the accuracy of checkpoints, bundles and servers, by the same code."""

import argparse
import logging
import sys
from pathlib import Path

from alexnet import __version__, ten_views
from alexnet.extras import needing
from export.options import add_weight_options

EXPLANATION = """\
A subject is a file of weights, a bundle (a folder or .tar.xz, with :int8 or :fp32 behind it to
choose), a teacher (an .onnx with its .json, as for alexnet-label) or the URL of a running server.
Several are also scored together: the mean of their probabilities, as of the paper's five CNNs;
and the report says on how many photos each has the first one's first class.

The class of a photo is the name of its top folder, in a directory or in a zip; in a flat folder
it is what precedes the first _ in the file's name, as in n02085620_Chihuahua.jpg. A photo that
cannot be read counts as failed, not as wrong.

examples:
  alexnet-evaluate models/starter.tar.xz --photos val.zip
  alexnet-evaluate models/starter.tar.xz --photos val.zip --among val.zip
  alexnet-evaluate runs/*/model.safetensors --photos val/ --views 10
  alexnet-evaluate lite0.onnx models/mine --photos val.zip --output report
  alexnet-evaluate mine:int8 mine:fp32 http://localhost:8000 --photos val/ --json
"""


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments = _arguments()
    with needing("export", "alexnet-evaluate"):
        from export.evaluation import evaluate
        from training.checks import sentence
    try:
        evaluate(arguments)
    except (ValueError, OSError, RuntimeError, MemoryError) as error:
        logging.debug("", exc_info=True)
        sys.exit(f"alexnet-evaluate: {sentence(error, batch=False)}")
    except KeyboardInterrupt:
        sys.exit("\nstopped before the scores were complete")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="alexnet-evaluate",
        description="Measure top-1 and top-5 on photos whose class is known.",
        epilog=EXPLANATION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.add_argument("subjects", nargs="+", metavar="SUBJECT")
    parser.add_argument("--photos", nargs="+", type=Path, required=True, metavar="DIR_OR_ZIP")
    parser.add_argument(
        "--views", type=int, choices=(1, ten_views.VIEWS), default=1,
        help="1: the central crop, as served; 10: the paper's corners and centre, each with its "
        "mirror image (default: 1)",
    )  # fmt: skip
    parser.add_argument(
        "--classes", type=Path, metavar="FILE_OR_ZIP_OR_DIR",
        help="score only photos of the classes in here",
    )  # fmt: skip
    parser.add_argument(
        "--among", type=Path, metavar="FILE_OR_ZIP_OR_DIR",
        help="as if the subjects had no classes but those in here",
    )  # fmt: skip
    parser.add_argument(
        "--known-only", action="store_true",
        help="leave out photos of classes that the subjects do not have",
    )  # fmt: skip
    parser.add_argument("--worst", type=int, default=10, metavar="N", help="classes shown")
    parser.add_argument("--json", action="store_true", help="the report on stdout, all classes")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="write report.json, classes.tsv and pairs.png (which class is taken for which) there",
    )
    add_weight_options(parser.add_argument_group("for weights, as of alexnet-export"))
    arguments = parser.parse_args()
    if arguments.worst < 0:
        parser.error(f"--worst {arguments.worst} is no number of classes")
    return arguments


if __name__ == "__main__":
    main()
