# SPDX-License-Identifier: Apache-2.0
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import plant  # noqa: E402


@pytest.fixture
def made(tmp_path):
    """made(Class, …): makes a part of the plant and closes it at the end, last made first."""
    parts = []

    def make(kind, *args, **kwargs):
        if kind in (plant.Broker, plant.Gateway, plant.Certificates):
            args = (tmp_path / f"{kind.__name__.lower()}{len(parts)}", *args)
        part = kind(*args, **kwargs)
        parts.append(part)
        return part

    yield make
    for part in reversed(parts):
        if hasattr(part, "close"):
            part.close()
