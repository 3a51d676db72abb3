"""A tiny ClientApp for the grid's tests: trains by adding its partition, remembers its calls."""

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Adds partition-id + 1 to every weight; counts calls in the node's own state."""
    calls = int(context.state["calls"]["n"]) if "calls" in context.state else 0
    context.state["calls"] = ConfigRecord({"n": calls + 1})
    arrays = [a.numpy() + context.node_config["partition-id"] + 1
              for a in message.content["arrays"].values()]  # fmt: skip
    return Message(
        RecordDict(
            {
                "arrays": ArrayRecord(arrays),
                "metrics": MetricRecord({"num-examples": 1, "calls": calls + 1}),
            }
        ),
        reply_to=message,
    )


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Returns the mean weight."""
    mean = float(np.mean([a.numpy().mean() for a in message.content["arrays"].values()]))
    metrics = MetricRecord({"num-examples": 1, "mean": mean})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


@app.query("fail")
def fail(message: Message, context: Context) -> Message:
    """Raises, as a broken app would."""
    raise ValueError("the app broke")


@app.query("die")
def die(message: Message, context: Context) -> Message:
    """Kills its process, as the system would under memory pressure."""
    import os

    os._exit(9)
