"""A process that computes tasks: ``python -m forecastlib.evaluation.walkforward.worker FOLDER``.

The folder holds the job: ``prices.parquet`` and ``job.json``. Every line of standard input has the tasks of one go in
JSON, every line of standard output says that they are done, or how they failed. The end of the input ends the process
at once, whatever it is computing: nobody is there any more to use it.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

import keras
import pandas as pd

from forecastlib.config import load_config
from forecastlib.errors import ForecastError
from forecastlib.evaluation.walkforward.kept import keep
from forecastlib.evaluation.walkforward.tasks import Folds, Task, compute

Asked = list[dict[str, Any]]


def main(folder: Path) -> None:
    """Compute tasks until the input ends."""
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)  # whatever else prints must not come between the answers
        asked: queue.SimpleQueue[Asked] = queue.SimpleQueue()
        threading.Thread(target=_listen, args=(asked,), daemon=True).start()
        job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
        prices = pd.read_parquet(folder / "prices.parquet")
        config = load_config(job["config"])
        windows, splits = Folds(**job["folds"]).of(prices, config)
        while True:
            one = asked.get()
            paths = {Task(**each["task"]): Path(each["path"]) for each in one}
            tasks = list(paths)
            answer: dict[str, str] = {}
            try:
                for task, frame in compute(tasks, prices, windows, splits[tasks[0].fold - 1], config):
                    keep(frame, paths[task])
            except ForecastError as error:
                answer = {"error": type(error).__name__, "message": str(error)}
            except Exception as error:  # a bug: told to whoever asked, with the traceback
                answer = {"error": type(error).__name__, "message": traceback.format_exc()}
            keras.utils.clear_session()  # a task finds the same state whichever came before, and memory does not grow
            answers.write(json.dumps(answer) + "\n")
            answers.flush()


def _listen(asked: queue.SimpleQueue[Asked]) -> None:
    for line in sys.stdin:
        asked.put(json.loads(line))
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
