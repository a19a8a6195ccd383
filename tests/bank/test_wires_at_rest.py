"""Wires in a store: a file per task, index and value alone, and the same outputs after a load."""

from pathlib import Path

import pytest
import torch
from torch import nn

from neuromod import Modulated, Modulator, RefusedError, Store, Table, Target, Wires, from_pretrained, save_pretrained
from neuromod.seeds import generator


def model_of(tasks: int = 2) -> Modulated:
    net = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 5))
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=generator("net", *p.shape)))
    target = Target(net, torch.ones(2, 20))
    model = Modulated(target, Modulator(Wires(0.1), Table(tasks), target.weights("*")))
    with torch.no_grad():
        for i, p in enumerate(model.parameters()):
            p.normal_(generator=generator("wires", i))
    return model.eval()


def test_a_store_holds_index_and_value_and_gives_them_back(tmp_path: Path) -> None:
    model, x = model_of(), torch.randn(6, 20)
    live = [model(x, task=t) for t in (0, 1)]
    for task in (0, 1):
        model.seal(task)
    save_pretrained(model, tmp_path / "store")
    again = from_pretrained(tmp_path / "store", target=model.target)
    for task in (0, 1):
        assert torch.equal(again(x, task=task), model(x, task=task))
        torch.testing.assert_close(again(x, task=task), live[task])
    mixed = torch.tensor([0, 1, 1, 0, 1, 0])
    torch.testing.assert_close(again(x, task=mixed), torch.stack([live[t][i] for i, t in enumerate(mixed.tolist())]))
    wires = 60 + 15
    row = Store.open(tmp_path / "store").read(0)["wires"]
    assert sum(value.numel() * value.element_size() for value in row.values()) == 8 * wires == model.bytes_per_task(0)


def test_a_state_dict_brings_sealed_wires(tmp_path: Path) -> None:
    model, other, x = model_of(), model_of(0), torch.randn(6, 20)
    model.seal(1)
    other.load_state_dict(model.state_dict())
    for task in (0, 1):
        assert torch.equal(other(x, task=task), model(x, task=task))


def test_a_damaged_index_is_refused(tmp_path: Path) -> None:
    model = model_of(1)
    model.seal(0)
    save_pretrained(model, tmp_path / "store")
    path = next((tmp_path / "store" / "tasks").iterdir())
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(RefusedError, match="is damaged"):
        from_pretrained(tmp_path / "store", target=model.target)


@pytest.mark.parametrize("place", [-1, 600])
def test_an_index_outside_of_the_weight_is_refused(place: int, tmp_path: Path) -> None:
    model = model_of(1)
    model.seal(0)
    store = Store.create(tmp_path / "store", model)
    model.named_modulators()["wires"].sealed.row(0)["0/weight/index"][0] = place
    with pytest.raises(RefusedError, match=r"a wire stands at a place of its weight; '0\.weight' has 600"):
        store.append(model, 0)


def test_a_row_without_its_index_is_refused_before_the_index_is_read(tmp_path: Path) -> None:
    model = model_of(1)
    model.seal(0)
    record = Store.create(tmp_path / "store", model).config.modulators[0]
    row = {key: value for key, value in model.named_modulators()["wires"].sealed.row(0).items() if "index" not in key}
    with pytest.raises(RefusedError, match=r"a row has the parts \['index', 'value'\]; task 0 has \['value'\]"):
        record.check(row, "task 0")
