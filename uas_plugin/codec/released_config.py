"""The ``config.yaml`` of released token decoders, read as data.

The releases describe their modules by HyperPyYAML object tags (``!new:package.Class``), which that
package would import and call. Here a tag is a name in a fixed list, mapped to our settings; nothing
is imported and nothing is called. Any other tag is an error that names it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from uas_plugin.codec.config import DecoderConfig, decoder_config
from uas_plugin.codec.hift import HiFTConfig
from uas_plugin.errors import UASError

MAX_BYTES = 1_000_000
_FLOW = "cosyvoice.flow.flow.MaskedDiffWithXvec"
_ENCODER = "cosyvoice.transformer.encoder.BlockConformerEncoder"
_REGULATOR = "cosyvoice.flow.length_regulator.InterpolateRegulator"
_CFM = "cosyvoice.flow.flow_matching.ConditionalCFM"
_ESTIMATOR = "cosyvoice.flow.decoder.ConditionalDecoder"
_HIFT = "cosyvoice.hifigan.generator.HiFTGenerator"
_F0 = "cosyvoice.hifigan.f0_predictor.ConvRNNF0Predictor"
_DICT = "omegaconf.DictConfig"
_CLASSES = (_FLOW, _ENCODER, _REGULATOR, _CFM, _ESTIMATOR, _HIFT, _F0, _DICT)
# Seeds and parts of the training pipeline that public configurations also hold: skipped.
_SKIPPED = (
    "random.seed",
    "numpy.random.seed",
    "torch.manual_seed",
    "torch.cuda.manual_seed_all",
    "matcha.utils.audio.mel_spectrogram",
    "whisper.tokenizer.get_tokenizer",
)
_SKIPPED_PACKAGES = ("cosyvoice.dataset.", "cosyvoice.llm.", "cosyvoice.transformer.")
_REF = re.compile(r"<([\w.]+)>")


@dataclass
class Tagged:
    """``!new:name`` with its arguments."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Ref:
    """``!ref <key>``."""

    key: str


class _Loader(yaml.SafeLoader):
    def compose_node(self, parent, index):
        if self.check_event(yaml.events.AliasEvent):
            raise UASError("aliases (*name) are not read")
        return super().compose_node(parent, index)


def _tagged(loader: _Loader, suffix: str, node: yaml.Node) -> Tagged | None:
    if suffix in _CLASSES:
        if not isinstance(node, yaml.MappingNode):
            raise UASError(f"the tag '{node.tag}' needs named arguments")
        found = loader.construct_mapping(node, deep=True)
        return Tagged(suffix, {str(key): value for key, value in found.items()})
    _skip(loader, suffix, node)
    return None


def _skip(loader: _Loader, suffix: str, node: yaml.Node) -> None:
    if suffix in _SKIPPED or suffix.startswith(_SKIPPED_PACKAGES):
        return
    raise UASError(
        f"the tag '{node.tag}' is not one that token decoders have; nothing of it was executed"
    )


def _ref(loader: _Loader, node: yaml.Node) -> Ref:
    match = _REF.fullmatch(str(node.value)) if isinstance(node, yaml.ScalarNode) else None
    if match is None:
        raise UASError("a '!ref' must name one key: !ref <key>")
    return Ref(match[1])


def _refuse(loader: _Loader, suffix: str, node: yaml.Node) -> None:
    raise UASError(f"the tag '{node.tag}' is refused; nothing of it was executed")


_Loader.add_multi_constructor("!new:", _tagged)
_Loader.add_multi_constructor("!apply:", _skip)
_Loader.add_multi_constructor("!name:", _skip)
_Loader.add_constructor("!ref", _ref)
_Loader.add_multi_constructor("!", _refuse)
_Loader.add_multi_constructor("tag:yaml.org,2002:python", _refuse)


def load_yaml(path: Path) -> dict[str, Any]:
    """The top level of a release's ``config.yaml``.

    Raises:
        UASError: unreadable, too large, not a mapping, or a tag outside the list.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UASError(f"larger than {MAX_BYTES} bytes")
        values = _Loader(path.read_text(encoding="utf-8")).get_single_data()
    except UASError as error:
        raise UASError(f"{path}: {error}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, OSError) as error:
        raise UASError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise UASError(f"{path}: expected keys at the top level")
    return values


class _Arguments:
    """The arguments of one object: each is asked for once, what is left is an error."""

    def __init__(self, top: Mapping[str, Any], node: Any, wanted: str, where: str) -> None:
        if isinstance(node, Ref):
            node = top.get(node.key)
        if not isinstance(node, Tagged) or node.name != wanted:
            found = f"'!new:{node.name}'" if isinstance(node, Tagged) else repr(node)[:60]
            raise UASError(f"{where} must be '!new:{wanted}', not {found}")
        self.top, self.where, self.left = top, where, dict(node.arguments)

    def get(self, name: str, kind: type, default: Any = None) -> Any:
        """An argument of type ``kind``; without ``default`` it must be there."""
        value = self.left.pop(name, default)
        if isinstance(value, Ref):
            value = self.top.get(value.key)
        if kind is float and isinstance(value, (int, str)) and not isinstance(value, bool):
            value = _number(value)  # YAML 1.1 reads 1e-6 as text
        if value is None:
            raise UASError(f"{self.where}.{name} is missing")
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise UASError(f"{self.where}.{name} must be {kind.__name__}, not {value!r:.60}")
        return value

    def ints(self, name: str, default: Any = None) -> tuple:
        """A list of integers, or of lists of integers."""
        return _int_tuple(self.get(name, list, default), f"{self.where}.{name}")

    def fixed(self, name: str, value: Any, default: Any = None) -> None:
        """An argument of which only one value is known here."""
        found = self.left.pop(name, default)
        if isinstance(found, Ref):
            found = self.top.get(found.key)
        if found != value:
            raise UASError(f"{self.where}.{name} must be {value!r}, not {found!r:.60}")

    def done(self, *ignored: str) -> None:
        """Nothing else may be there, but for what does not matter here."""
        for name in ignored:
            self.left.pop(name, None)
        if self.left:
            raise UASError(f"{self.where}: unknown argument '{next(iter(self.left))}'")


def _number(value: Any) -> Any:
    try:
        return float(value)
    except ValueError:
        return value


def _int_tuple(values: list, where: str) -> tuple:
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (int, list)):
            raise UASError(f"{where} must hold integers, not {value!r:.60}")
    return tuple(_int_tuple(v, where) if isinstance(v, list) else v for v in values)


def _mapping(top: Mapping[str, Any], node: Any, where: str) -> Tagged:
    """``!new:omegaconf.DictConfig {content: ...}`` or a plain mapping, as an object."""
    if isinstance(node, Ref):
        node = top.get(node.key)
    if isinstance(node, Tagged) and node.name == _DICT:
        node = node.arguments.get("content")
    if not isinstance(node, dict):
        raise UASError(f"{where} must be a mapping")
    return Tagged(_DICT, node)


def _encoder(top: Mapping[str, Any], node: Any) -> dict[str, Any]:
    args = _Arguments(top, node, _ENCODER, "flow.encoder")
    for name, value, default in (
        ("normalize_before", True, True),
        ("input_layer", "linear", None),
        ("pos_enc_layer_type", "rel_pos_espnet", None),
        ("selfattention_layer_type", "block_rel_selfattn", None),
        ("use_cnn_module", False, True),
        ("macaron_style", False, True),
        ("activation_type", "swish", "swish"),
        ("key_bias", True, True),
    ):
        args.fixed(name, value, default)
    result = {
        "name": "block_transformer",
        "embedding_channels": args.get("input_size", int),
        "channels": args.get("output_size", int, 256),
        "attention_heads": args.get("attention_heads", int, 4),
        "linear_units": args.get("linear_units", int, 2048),
        "blocks": args.get("num_blocks", int, 6),
        "block_size": args.get("block_size", int, 25),
        "dropout": args.get("dropout_rate", float, 0.1),
        "positional_dropout": args.get("positional_dropout_rate", float, 0.1),
        "attention_dropout": args.get("attention_dropout_rate", float, 0.0),
    }
    args.done()
    return result


def _estimator(top: Mapping[str, Any], node: Any, bins: int) -> dict[str, Any]:
    args = _Arguments(top, node, _ESTIMATOR, "flow.decoder.estimator")
    args.fixed("in_channels", 4 * bins)
    args.fixed("out_channels", bins)
    args.fixed("act_fn", "gelu", "snake")
    result = {
        "name": "unet",
        "channels": args.ints("channels", [256, 256]),
        "n_blocks": args.get("n_blocks", int, 1),
        "num_mid_blocks": args.get("num_mid_blocks", int, 2),
        "num_heads": args.get("num_heads", int, 4),
        "attention_head_dim": args.get("attention_head_dim", int, 64),
        "dropout": args.get("dropout", float, 0.05),
    }
    args.done()
    return result


def _cfm(top: Mapping[str, Any], node: Any, bins: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Flow settings, and the estimator's."""
    args = _Arguments(top, node, _CFM, "flow.decoder")
    where = "flow.decoder.cfm_params"
    params = _Arguments(top, _mapping(top, args.left.pop("cfm_params", None), where), _DICT, where)
    params.fixed("solver", "euler", "euler")
    params.fixed("t_scheduler", "cosine")
    cfm = {
        "sigma_min": params.get("sigma_min", float, 1e-6),
        "training_cfg_rate": params.get("training_cfg_rate", float, 0.0),
        "inference_cfg_rate": params.get("inference_cfg_rate", float, 0.0),
        "prefix_rate": 0.5,
        "prefix_max": 0.8,
    }
    params.done("reg_loss_type")  # the loss is squared whatever it says (D7)
    estimator = _estimator(top, args.left.pop("estimator", None), bins)
    args.fixed("spk_emb_dim", bins, bins)
    args.done("in_channels", "n_spks")
    return cfm, estimator


def _regulator_layers(top: Mapping[str, Any], node: Any, bins: int) -> int:
    args = _Arguments(top, node, _REGULATOR, "flow.length_regulator")
    args.fixed("channels", bins)
    args.fixed("out_channels", bins, bins)
    args.fixed("groups", 1, 1)
    layers = len(args.ints("sampling_ratios"))
    args.done()
    return layers


def flow_config(top: Mapping[str, Any], hift: HiFTConfig) -> DecoderConfig:
    """Our settings of the release's ``flow``.

    Raises:
        UASError: an argument is missing, unknown or of a value that has no counterpart here.
    """
    args = _Arguments(top, top.get("flow"), _FLOW, "flow")
    args.fixed("output_type", "mel", "mel")
    bins = args.get("output_size", int, 80)
    encoder = _encoder(top, args.left.pop("encoder", None))
    args.fixed("input_size", encoder["embedding_channels"], 512)
    cfm, estimator = _cfm(top, args.left.pop("decoder", None), bins)
    layers = _regulator_layers(top, args.left.pop("length_regulator", None), bins)
    values = {
        "vocab_size": args.get("vocab_size", int),
        "frame_rate": args.get("input_frame_rate", float),
        "spk_embed_dim": args.get("spk_embed_dim", int, 192),
        "regulator": {"name": "normed", "layers": layers},
        "encoder": encoder,
        "estimator": estimator,
        "cfm": cfm,
        "mel": {
            "sampling_rate": hift.sampling_rate,
            "hop_length": hift.hop_length,
            "n_mels": bins,
        },
    }
    args.done("only_mask_loss", "decoder_conf", "mel_feat_conf")
    return decoder_config(values)


def hift_config(top: Mapping[str, Any]) -> HiFTConfig:
    """Our settings of the release's ``hift``; errors as in `flow_config`."""
    args = _Arguments(top, top.get("hift"), _HIFT, "hift")
    where = "hift.istft_params"
    istft = _Arguments(top, _mapping(top, args.left.pop("istft_params", None), where), _DICT, where)
    f0 = _Arguments(top, args.left.pop("f0_predictor", None), _F0, "hift.f0_predictor")
    default = HiFTConfig()
    f0.fixed("num_class", 1, 1)
    values: dict[str, Any] = {
        "n_fft": istft.get("n_fft", int),
        "hop_len": istft.get("hop_len", int),
        "f0_channels": f0.get("cond_channels", int, default.f0_channels),
    }
    for name in ("in_channels", "base_channels", "nb_harmonics", "sampling_rate"):
        values[name] = args.get(name, int, getattr(default, name))
    for name in ("nsf_alpha", "nsf_sigma", "nsf_voiced_threshold", "lrelu_slope", "audio_limit"):
        values[name] = args.get(name, float, getattr(default, name))
    for name in (
        "upsample_rates",
        "upsample_kernel_sizes",
        "resblock_kernel_sizes",
        "resblock_dilation_sizes",
        "source_resblock_kernel_sizes",
        "source_resblock_dilation_sizes",
    ):
        values[name] = args.ints(name)
    f0.fixed("in_channels", values["in_channels"], values["in_channels"])
    for part in (istft, f0, args):
        part.done()
    return HiFTConfig(**values)
