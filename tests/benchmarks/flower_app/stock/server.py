"""FedAvg as Flower offers it; a mark in a file after each round."""

from pathlib import Path

import torch
from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from green_api.learning import Data, Network
from green_jobs import data, models

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    torch.set_num_threads(1)
    config = context.run_config
    net = models.Net.build(Network(builtin="digits-cnn"), "model").module
    inputs, targets = data.load(Data(builtin="digits"), "data").test.tensors

    @torch.no_grad()
    def evaluate(number: int, arrays: ArrayRecord) -> MetricRecord:
        net.load_state_dict(arrays.to_torch_state_dict())
        net.eval()
        accuracy = (net(inputs).argmax(1) == targets).double().mean().item()
        with Path(config["marks"]).open("a") as marks:
            marks.write(f"{number} {accuracy:.4f}\n")
        return MetricRecord({"accuracy": accuracy})

    sites = config["sites"]
    strategy = FedAvg(
        fraction_evaluate=0, min_train_nodes=sites, min_evaluate_nodes=0, min_available_nodes=sites
    )
    strategy.start(
        grid, ArrayRecord(net.state_dict()), num_rounds=config["rounds"], evaluate_fn=evaluate
    )
