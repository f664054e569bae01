"""The Hugging Face Hub's names of licences; it refuses a card with another one."""

import re

UNKNOWN, OTHER = "unknown", "other"
SAME_ON_THE_HUB = (
    *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear", "isc", "zlib", "unlicense", "wtfpl"),
    *("cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0"),
    *("cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0"),
    *("cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0"),
    *("cdla-permissive-1.0", "cdla-permissive-2.0", "cdla-sharing-1.0", "odc-by", "odbl", "pddl"),
    *("agpl-3.0", "gpl-2.0", "gpl-3.0", "lgpl-2.1", "lgpl-3.0", "mpl-2.0", "epl-1.0", "epl-2.0", "eupl-1.1"),
    *("afl-3.0", "artistic-2.0", "bsl-1.0", "ecl-2.0", "etalab-2.0", "ms-pl", "ncsa", "ofl-1.1", "osl-3.0"),
    *("openrail", "openrail++", "bigscience-openrail-m", "creativeml-openrail-m", "bigcode-openrail-m"),
)
HUB_LICENSES = {name: name for name in (*SAME_ON_THE_HUB, UNKNOWN)} | {
    "odc-by-1.0": "odc-by",
    "odbl-1.0": "odbl",
    "pddl-1.0": "pddl",
    **{f"{name}-only": name for name in ("agpl-3.0", "gpl-2.0", "gpl-3.0", "lgpl-2.1", "lgpl-3.0")},
}
"""The Hub's name of a licence, by its SPDX identifier in small letters."""


def licence_metadata(text: str) -> dict[str, str]:
    """The metadata of a card on its licence.

    Args:
        text: an SPDX identifier or a sentence.

    Returns:
        "license", which is "other" if the Hub has no name for it; then also "license_name", made from the text.
    """
    known = HUB_LICENSES.get(text.lower(), OTHER)
    name = re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")[:60] or OTHER
    return {"license": known} | ({"license_name": name} if known == OTHER else {})
