"""The presets of isonorm.checkpoint on models of Hugging Face: the same logits, but for the rounding of new weights."""

import pytest
import torch
import transformers

import isonorm.torch
from isonorm import checkpoint

TINY = {"vocab_size": 24, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
LAYERS = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 16}
CONFIGS = {
    "gpt2": lambda: transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=16, tie_word_embeddings=False, **TINY),
    "opt": lambda: transformers.OPTConfig(
        ffn_dim=48, word_embed_proj_dim=32, tie_word_embeddings=False, **LAYERS, **{**TINY, "pad_token_id": 1}
    ),
    "gpt_neox": lambda: transformers.GPTNeoXConfig(intermediate_size=48, tie_word_embeddings=False, **LAYERS, **TINY),
    "llama": lambda: transformers.LlamaConfig(intermediate_size=48, tie_word_embeddings=False, **LAYERS, **TINY),
    "gemma": lambda: transformers.GemmaConfig(
        intermediate_size=48, head_dim=8, num_key_value_heads=2, tie_word_embeddings=False, **LAYERS, **TINY
    ),
}
TIED = ("gpt2", "opt")
EMBEDDINGS = {"gpt2": "transformer.wte.weight", "opt": "model.decoder.embed_tokens.weight"}
TOKENS = torch.tensor([[3, 5, 7, 2, 9, 11]])


class RMSNorm(torch.nn.Module):
    """With the parameters of a LayerNorm."""

    def __init__(self, norm):
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, x):
        return isonorm.torch.rms_norm(x, self.weight, self.bias, eps=self.eps)


def build(preset, tensors=None, rms=False):
    """In float64, so that nothing but weights is rounded."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(CONFIGS[preset]()).double().eval()
    if tensors is not None:
        model.load_state_dict(tensors)
    if rms:
        for module in list(model.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, torch.nn.LayerNorm):
                    setattr(module, name, RMSNorm(child))
    return model


def random_tensors(preset):
    tensors, generator = {}, torch.Generator().manual_seed(1)
    for name, value in build(preset).state_dict().items():
        middle = 1.0 if "norm" in name or ".ln_" in name else 0.05
        tensors[name] = (middle + 0.2 * torch.randn(value.shape, generator=generator)).float()
    return tensors


def check_logits(old, new, rounded):
    """Each new weight is off by 2^-24 of itself at most; what that does is its derivative times that, and in second order less
    than once more as much."""
    before, after = old(TOKENS).logits[0, -1], new(TOKENS).logits[0, -1]
    weights = [weight for name, weight in new.named_parameters() if name in rounded]
    assert len(weights) == len(rounded) > 0
    for one, other in zip(before, after):
        slopes = torch.autograd.grad(other, weights, retain_graph=True)
        bound = 2 * 2**-24 * sum((slope * weight).abs().sum().item() for slope, weight in zip(slopes, weights))
        assert (one - other).abs().item() <= bound < 1e-3 * before.abs().max().item()
    return (before - after).abs().max().item()


def changed(old, new):
    return {name for name in new if name not in old or not torch.equal(old[name], new[name])}


@pytest.mark.parametrize("preset", ["gpt2", "opt", "gpt_neox"])
def test_recentred_models_have_rms_norm(preset):
    tensors = random_tensors(preset)
    old = build(preset, tensors)
    new = checkpoint.recenter(tensors, preset)
    check_logits(old, build(preset, new, rms=True), changed(tensors, new))
    with pytest.raises(AssertionError):  # the mean that only LayerNorm takes away is not small
        check_logits(old, build(preset, tensors, rms=True), changed(tensors, new))


@pytest.mark.parametrize("preset", TIED)
def test_tied_heads_are_refused_or_untied(preset):
    tensors = random_tensors(preset)
    head = tensors["lm_head.weight"]
    tied = {**tensors, "lm_head.weight": tensors[EMBEDDINGS[preset]]}
    with pytest.raises(ValueError, match="share memory: they are tied"):
        checkpoint.recenter(tied, preset)
    del tied["lm_head.weight"]
    with pytest.raises(ValueError, match="there is no head lm_head.weight, so it may be tied"):
        checkpoint.recenter(tied, preset)
    new = checkpoint.recenter(tied, preset, untie=EMBEDDINGS[preset])
    assert torch.equal(new["lm_head.weight"], tensors[EMBEDDINGS[preset]]) and head.shape == new["lm_head.weight"].shape
    old = build(preset, {**tied, "lm_head.weight": tied[EMBEDDINGS[preset]]})
    check_logits(old, build(preset, new, rms=True), changed(tied, new) - {"lm_head.weight"})


@pytest.mark.parametrize("preset", CONFIGS)
def test_folded_models_have_norms_without_weights(preset):
    tensors = random_tensors(preset)
    new = checkpoint.fold(tensors, preset)
    norms = {name for name in changed(tensors, new) if "norm" in name or ".ln_" in name}
    for name in norms:
        neutral = 1.0 if name.endswith(".weight") and preset != "gemma" else 0.0
        assert (new[name] == neutral).all(), name
    assert len(norms) == 2 * 2 * (1 if preset in ("llama", "gemma") else 2)  # two layers, two norms, with a bias or without
    check_logits(build(preset, tensors), build(preset, new), changed(tensors, new) - norms)


def test_a_wrong_offset_is_not_the_same_model():
    tensors = random_tensors("gemma")
    new = checkpoint.fold(tensors, "llama")  # the same names
    with pytest.raises(AssertionError):
        folded = {name for name in changed(tensors, new) if "_proj" in name}
        check_logits(build("gemma", tensors), build("gemma", new), folded)


def test_models_that_are_not_what_the_preset_says():
    gpt2, llama = random_tensors("gpt2"), random_tensors("llama")
    without = {name: value for name, value in llama.items() if name != "model.layers.1.self_attn.k_proj.weight"}
    for function, tensors, preset, words in (
        (checkpoint.recenter, llama, "llama", "have RMSNorm, so there is no mean"),
        (checkpoint.recenter, llama, "gpt2", "there is no tensor wte.weight, so this is no model of the preset gpt2"),
        (checkpoint.recenter, {**gpt2, "h.0.attn.lora.weight": torch.ones(2, 2)}, "gpt2", "lora.weight is no tensor that"),
        (checkpoint.fold, {**llama, "router.weight": torch.ones(2, 32)}, "llama", "router.weight is no tensor that"),
        (checkpoint.fold, without, "llama", "k_proj.weight names 1 tensors, but 2 were expected"),
        (checkpoint.fold, llama, "gpt4", "the preset is 'gpt4', but has to be one of gpt2, opt, gpt_neox, llama, gemma"),
    ):
        with pytest.raises(ValueError, match=words):
            function(tensors, preset)
    # By hand, too, a norm that is known must go into all that reads it.
    with pytest.raises(ValueError, match="input_layernorm.weight is read by model.layers.0.self_attn.v_proj.weight too"):
        checkpoint.fold(
            llama, norm="model.layers.*.input_layernorm.weight",
            linear=["model.layers.*.self_attn.q_proj.weight", "model.layers.*.self_attn.k_proj.weight"],
        )  # fmt: skip
    last = checkpoint.fold(llama, norm="model.norm.weight", linear="lm_head.weight")
    check_logits(build("llama", llama), build("llama", last), {"lm_head.weight"})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_tensors_of_torch_become_what_arrays_do(dtype):
    numpy = pytest.importorskip("numpy")
    ml_dtypes = pytest.importorskip("ml_dtypes")
    tensors = {name: torch.nn.Parameter(value.to(dtype)) for name, value in random_tensors("gpt2").items()}
    # Strides, a gradient, and a vector inside another tensor are no obstacle.
    tensors["transformer.wpe.weight"] = torch.nn.Parameter(tensors["transformer.wpe.weight"].T.clone().T)
    bits = {torch.float64: torch.int64, torch.float32: torch.int32}.get(dtype, torch.int16)
    types = {torch.bfloat16: ml_dtypes.bfloat16, torch.float16: numpy.float16, torch.float64: numpy.float64}

    def array(tensor):
        return tensor.detach().contiguous().view(bits).numpy().view(types.get(dtype, numpy.float32))

    arrays = {name: array(value) for name, value in tensors.items()}
    for function in (checkpoint.recenter, checkpoint.fold):
        new, expected = function(tensors, "gpt2"), function(arrays, "gpt2")
        assert list(new) == list(expected)
        for name, value in new.items():
            assert (value is tensors[name]) == (expected[name] is arrays[name])
            assert array(value).tobytes() == expected[name].tobytes() and value.shape == expected[name].shape
