"""The demo's model: a linear regression, served by azmlinfsrv as Azure ML serves a scoring script.

It also writes down the headers that it gets, one JSON object per request, into the file that SCOREGATE_DEMO_HEADERS
names, so that the demo can prove what reaches a model and what does not.
"""

import json
import os

COEFFICIENTS = (0.5, -1.25, 3.0)
INTERCEPT = 4.0
IDENTITY = "x-scoregate-"


def init():
    pass


def predict(row):
    if len(row) != len(COEFFICIENTS):
        raise ValueError(f"a row has {len(COEFFICIENTS)} numbers")
    return INTERCEPT + sum(weight * float(value) for weight, value in zip(COEFFICIENTS, row))


def run(data, request_headers):
    headers = {name.lower(): value for name, value in request_headers.items()}
    record(headers)
    caller = {name.removeprefix(IDENTITY): value for name, value in headers.items() if name.startswith(IDENTITY)}
    return {"predictions": [predict(row) for row in json.loads(data)["data"]], "caller": caller}


def record(headers):
    path = os.environ.get("SCOREGATE_DEMO_HEADERS")
    if path:
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(headers) + "\n")
