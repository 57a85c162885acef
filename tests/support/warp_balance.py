"""Balance: the guide's environment of one's own, of the guide itself."""

import re

from rlopt.envs.mujoco import MjcfEnv
from rlopt.guide import extending

SOURCE = re.findall(r"^```python\n# balance\.py\n(.*?)^```", extending.__doc__ or "", re.DOTALL | re.MULTILINE)[0]
_names: dict[str, type[MjcfEnv]] = {}
exec(SOURCE, _names)  # type: ignore[arg-type]
Balance = _names["Balance"]
