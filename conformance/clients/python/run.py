"""Runs one case with Python's clients: `run.py CASE --kafka H:P --amqp H:P --mqtt H:P --prefix P --phase N`.

Prints JSON lines (`note`, `skip`, `error`); exits with 0 only if the case held.
"""

import argparse
import json
import sys
import traceback

from harness import CASES, Skip, Target


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("case")
    for name in ("--kafka", "--amqp", "--mqtt"):
        parser.add_argument(name)
    parser.add_argument("--prefix", default="try")
    parser.add_argument("--phase", type=int, default=1)
    args = parser.parse_args()

    import amqp_life  # noqa: F401  each module registers its cases
    import amqp_pika  # noqa: F401
    import amqp_routes  # noqa: F401
    import crossing  # noqa: F401
    import kafka_confluent  # noqa: F401
    import kafka_transactions  # noqa: F401
    import mapping  # noqa: F401
    import mqtt_paho  # noqa: F401
    import raw_views  # noqa: F401
    import tables  # noqa: F401

    case = CASES.get(args.case)
    if case is None:
        print(json.dumps({"error": f"no case {args.case}"}))
        return 2
    try:
        case(Target(args))
    except Skip as skip:
        print(json.dumps({"skip": str(skip)}))
    except BaseException as error:  # noqa: BLE001  everything is a failure of the case
        traceback.print_exc()
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}))
        return 1
    return 0


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)
    code = main()
    sys.stdout.flush()
    # Client threads that still run must not keep the process.
    import os

    os._exit(code)
