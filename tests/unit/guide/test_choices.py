"""The table of groups and choices."""

import re

from rlopt.config.choices import groups, is_variant
from rlopt.guide import choices


def test_every_group_has_its_row_with_all_its_parts():
    rows = dict(re.findall(r"^\| `(\w+)` \| [^|]* \| (.*) \|$", choices.__doc__ or "", re.MULTILINE))
    assert set(rows) == set(groups()) - {"experiment"}
    for group, row in rows.items():
        told = set(re.findall(r"`(\w+)`", row))
        assert told <= set(groups()[group])
        assert all(is_variant(group, name) for name in set(groups()[group]) - told), group
