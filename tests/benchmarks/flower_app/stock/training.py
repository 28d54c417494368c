"""A client that trains with PyTorch, which it imports for each round, as Flower starts it anew."""

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from green_api.learning import Data, Network
from green_jobs import data, models
from green_jobs.tasks.federate.partition import even_parts
from torch.nn.functional import cross_entropy

BATCH, RATE = 32, 0.05
app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    torch.set_num_threads(1)
    net = models.Net.build(Network(builtin="digits-cnn"), "model").module
    net.load_state_dict(message.content["arrays"].to_torch_state_dict())
    inputs, targets = data.load(Data(builtin="digits"), "data").train.tensors
    site, sites = context.node_config["site"], context.run_config["sites"]
    mine = torch.from_numpy(even_parts(len(inputs), sites, seed=0)[site])
    optimizer = torch.optim.SGD(net.parameters(), lr=RATE, momentum=0.9)
    net.train()
    for chosen in mine[torch.randperm(len(mine))].split(BATCH):
        optimizer.zero_grad()
        cross_entropy(net(inputs[chosen]), targets[chosen]).backward()
        optimizer.step()
    metrics = MetricRecord({"num-examples": len(mine)})
    content = {"arrays": ArrayRecord(net.state_dict()), "metrics": metrics}
    return Message(RecordDict(content), reply_to=message)
