"""`python -m benchmarks [NAME…] [--rounds N]`: measure each beside its peers; all of them without a name."""

import argparse
import importlib

OF_SERVERS = ("server", "traces", "shadow", "soak")
NAMES = ("prepare", "growth", "training", "evaluate", "quantize", *OF_SERVERS, "store", "run_cache", "labels")
ON_THE_CLUSTER = ("retrain",)  # run only when named
OF_TRAININGS = ("suspects", "trainers")  # run only when named: they train


def main() -> None:
    """Run the benchmarks one after the other."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"{' | '.join(NAMES)}; default: all these; {ON_THE_CLUSTER[0]}: on the test cluster; "
        f"{', '.join(OF_TRAININGS)}: train",
    )
    parser.add_argument("--rounds", type=int, help="of each contestant; default: each benchmark's own")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in NAMES + ON_THE_CLUSTER + OF_TRAININGS]:
        parser.error(f"no benchmark {', '.join(unknown)}; expected {', '.join(NAMES)}")
    for name in options.names or NAMES:
        print(f"\n{name}", flush=True)
        rounds = [] if options.rounds is None else ["--rounds", str(options.rounds)]
        importlib.import_module(f"benchmarks.{name}").main(rounds)


if __name__ == "__main__":
    main()
