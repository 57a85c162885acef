"""A policy on a server: `rlopt.load` needs neither the environment nor the code that trained it.

```shell
rlopt train env=pendulum algo=ppo run_dir=runs/served
```

With FastAPI and uvicorn (`pip install fastapi uvicorn`) this serves it: an observation, or several, comes in and an
action goes out. A policy is not made for several threads at once, which a lock sees to:

```python
# serve.py
import threading

import numpy as np
import rlopt
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

app, policy, one_at_a_time = FastAPI(), rlopt.load("runs/served"), threading.Lock()


class Request(BaseModel):
    observation: list  # (D,), or (N, D) for N actions


@app.post("/act")
def act(request: Request) -> dict:
    try:
        with one_at_a_time:
            action = policy(np.asarray(request.observation, np.float32))
    except (ValueError, TypeError) as error:  # of another shape, or no numbers
        raise HTTPException(422, str(error)) from error
    return {"action": np.asarray(action).tolist()}
```

    uvicorn serve:app --port 8000
    curl localhost:8000/act --json '{"observation": [1.0, 0.0, 0.5]}'

Observations of a Dict are dictionaries of arrays, see `rlopt.guide.asymmetric`. A policy with memory belongs to one
client at a time: keep one for each, or keep its ``state`` (`rlopt.guide.memory`). Where there is to be no Python,
`rlopt export` writes ONNX.
"""
