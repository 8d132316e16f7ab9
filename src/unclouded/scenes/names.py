"""What a scene is called: a path, or an address that GDAL opens (/vsi…, https://…, s3://…)."""

import re
from pathlib import Path


def is_address(name: str) -> bool:
    return name.startswith("/vsi") or "://" in name


def without_secrets(name: str) -> str:
    """The name as it may be written down: an address without password and query, whose signature would let anyone
    read."""
    return re.sub(r"(?<=://)[^/?]*@", "", name).partition("?")[0] if is_address(name) else name


def file_name(name: str) -> str:
    """The last part, which outputs and pages are named after."""
    return Path(without_secrets(name)).name
