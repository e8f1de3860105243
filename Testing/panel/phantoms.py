"""The phantom of the room's tests: small, so that a case opens in a second."""

SMALL = {"size": (48, 60, 20), "spacing": (3.5, 3.5, 7.0)}
