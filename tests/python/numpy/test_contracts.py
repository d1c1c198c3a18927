"""Contracts: the names and fields are those of the C ABI, and they do differ."""

import dataclasses
import json
import pickle

import numpy as np
from conftest import BF16, random, same

import isonorm


def test_fields_are_those_that_the_command_lists(command):
    for entry in json.loads(command("list", "--json"))["contracts"]:
        ours = dataclasses.asdict(getattr(isonorm.contracts, entry["name"]))
        del ours["text"]
        assert ours == {field: entry[field] for field in ours}
    assert isonorm.contracts.names() == [entry["name"] for entry in json.loads(command("list", "--json"))["contracts"]]


def test_a_contract_and_its_name_are_the_same():
    x, weight = random((5, 300), BF16, 1), random(300, BF16, 2)
    for name in ("torch", "llama", "gemma", "t5", "layer_norm"):
        assert same(
            isonorm.rms_norm(x, weight, eps=1e-6, contract=name),
            isonorm.rms_norm(x, weight, eps=1e-6, contract=getattr(isonorm.contracts, name)),
        )


def test_contracts_differ_from_each_other():
    x, weight = random((50, 300), BF16, 1), random(300, np.float32, 2)
    results = {
        name: isonorm.rms_norm(x, weight, eps=1e-3, contract=name)
        for name in ("torch", "llama", "t5", "gemma", "paper", "layer_norm")
    }
    names = list(results)
    equal = [(a, b) for i, a in enumerate(names) for b in names[:i] if same(results[a], results[b])]
    # t5 rounds to the weight's type, which is f32 here and rounds nothing.
    assert equal == [("t5", "torch")]


def test_one_of_your_own():
    mine = dataclasses.replace(isonorm.contracts.llama, weight_offset=1.0)
    x, weight = random((4, 64), BF16, 1), random(64, BF16, 2)
    # 1 + weight is formed in f32, where it is exact for this weight and rounded for none of it to bf16.
    shifted = (1 + weight.astype(np.float32)).astype(np.float32)
    assert same(isonorm.rms_norm(x, weight, eps=1e-6, contract=mine), isonorm.rms_norm(x, shifted, eps=1e-6, contract="llama"))
    assert pickle.loads(pickle.dumps(mine)) == mine and hash(mine) != hash(isonorm.contracts.llama)
