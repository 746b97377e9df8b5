"""The version is written once, in the C library's header. SPDX-License-Identifier: Apache-2.0"""

import pathlib
import re

from setuptools import setup

header = pathlib.Path(__file__).resolve().parent.parent / "include" / "kfuse" / "kfuse.h"
if not header.exists():
    raise SystemExit(f"kfuse is installed from its tree (pip install ./python): {header} is not there")
found = re.search(r'KF_VERSION_STRING "([^"]*)"', header.read_text(encoding="utf-8"))
setup(version=found.group(1))
