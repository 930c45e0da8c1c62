"""What the cases share: their table, the addresses, bounded waiting."""

import json
import time

CASES = {}


class Skip(Exception):
    """The case can't be decided here."""


def case(name):
    def register(function):
        CASES[name] = function
        return function

    return register


def note(text):
    print(json.dumps({"note": str(text)}), flush=True)


def equal(actual, expected, what):
    if actual != expected:
        raise AssertionError(f"{what}: expected {expected!r}, got {actual!r}")


def true(condition, what):
    if not condition:
        raise AssertionError(what)


def wait_for(condition, what, within=15.0, step=lambda: time.sleep(0.02)):
    """Waits until `condition()` is true; `step` is what drives the client meanwhile."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within} s: {what}")
        step()


class Target:
    def __init__(self, args):
        self.kafka = args.kafka
        self.amqp = self._split(args.amqp)
        self.mqtt = self._split(args.mqtt)
        self.prefix = args.prefix
        self.phase = args.phase

    @staticmethod
    def _split(address):
        if address is None:
            return None
        host, port = address.rsplit(":", 1)
        return host, int(port)

    def name(self, suffix):
        return f"{self.prefix}-{suffix}"
