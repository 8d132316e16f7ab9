"""What the authors call our tensors: for each network a table of (pattern of our name, their name), and what we leave
out.

Keys and shapes are facts read from the authors' files. A pattern matches a whole name of ours; their name is a `re`
replacement (`\\1` …) or a function of the match. `unclouded.models.authors` uses these tables to read a checkpoint.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

Rule = tuple[str, str | Callable[[re.Match[str]], str]]


@dataclass(frozen=True)
class KeyMap:
    """One network's table. Names without a rule are the same on both sides.

    `signature` is a key that no other network has; tensors that match `unused` have no effect on the output; those
    that match `copies` repeat one value that we keep once.
    """

    signature: str
    rules: tuple[Rule, ...]
    unused: tuple[str, ...] = ()
    copies: str | None = None

    def theirs(self, ours: str) -> str:
        """The authors' name of our tensor `ours`."""
        for pattern, name in self.rules:
            match = re.fullmatch(pattern, ours)
            if match is not None:
                return match.expand(name) if isinstance(name, str) else name(match)
        return ours

    def is_unused(self, theirs: str) -> bool:
        return any(re.fullmatch(pattern, theirs) for pattern in self.unused)

    def is_copy(self, theirs: str) -> bool:
        return self.copies is not None and re.fullmatch(self.copies, theirs) is not None


def _up(text: str, by: int = 1) -> str:
    """Our indices count from zero, most of theirs from one."""
    return str(int(text) + by)


# MPRNet: a CAB holds body.0, body.1 (the shared PReLU, stored again in each), body.2 and CA.conv_du.{0,2}.
_CAB = {"conv1": "body.0", "conv2": "body.2", "squeeze": "CA.conv_du.0", "excite": "CA.conv_du.2"}
_CAB_PART = r"\.(?P<cab>conv1|conv2|squeeze|excite)\.weight"
_SAM = {"features": "conv1", "to_image": "conv2", "gate": "conv3"}


def _cab(place: Callable[[re.Match[str]], str]) -> Callable[[re.Match[str]], str]:
    return lambda m: f"{place(m)}.{_CAB[m['cab']]}.weight"


MEMORYNET = KeyMap(
    signature="stage3_orsnet.conv_enc1.weight",
    copies=r"(shallow_feat\d\.1|stage\d_(encoder|decoder|orsnet)\.[\w.]+)\.body\.1\.weight",
    rules=(
        (r"act\.weight", "shallow_feat1.1.body.1.weight"),
        (r"shallow\.(\d)\.0\.weight", lambda m: f"shallow_feat{_up(m[1])}.0.weight"),
        (r"shallow\.(\d)\.1" + _CAB_PART, _cab(lambda m: f"shallow_feat{_up(m[1])}.1")),
        (
            r"(encoder|decoder)(\d)\.levels\.(\d)\.(\d)" + _CAB_PART,
            _cab(lambda m: f"stage{m[2]}_{m[1]}.{m[1]}_level{_up(m[3])}.{m[4]}"),
        ),
        (r"decoder(\d)\.skips\.(\d)" + _CAB_PART, _cab(lambda m: f"stage{m[1]}_decoder.skip_attn{_up(m[2])}")),
        (
            r"encoder(\d)\.down\.(\d)\.conv\.weight",
            lambda m: f"stage{m[1]}_encoder.down{_up(m[2])}{_up(m[2], 2)}.down.1.weight",
        ),
        (
            r"decoder(\d)\.up\.(\d)\.conv\.weight",
            lambda m: f"stage{m[1]}_decoder.up{_up(m[2], 2)}{_up(m[2])}.up.1.weight",
        ),
        (r"encoder2\.from_(enc|dec)oder\.(\d)\.weight", lambda m: f"stage2_encoder.csff_{m[1]}{_up(m[2])}.weight"),
        (
            r"attention(\d)\.(features|to_image|gate)\.weight",
            lambda m: f"sam{m[1]}{_up(m[1])}.{_SAM[m[2]]}.weight",
        ),
        (r"merge(\d)\.weight", lambda m: f"concat{_up(m[1], -1)}{m[1]}.weight"),
        (r"full\.orbs\.(\d)\.blocks\.(\d+)" + _CAB_PART, _cab(lambda m: f"stage3_orsnet.orb{_up(m[1])}.body.{m[2]}")),
        (r"full\.orbs\.(\d)\.conv\.weight", lambda m: f"stage3_orsnet.orb{_up(m[1])}.body.8.weight"),
        (r"full\.from_(enc|dec)oder\.(\d)\.\2\.weight", lambda m: f"stage3_orsnet.conv_{m[1]}{_up(m[2])}.weight"),
        (r"full\.from_(enc|dec)oder\.1\.0\.conv\.weight", r"stage3_orsnet.up_\g<1>1.up.1.weight"),
        (r"full\.from_(enc|dec)oder\.2\.(\d)\.conv\.weight", r"stage3_orsnet.up_\g<1>2.\2.up.1.weight"),
    ),
)

# MSDA-CR: where a block stands in the grid, then what it is within the block.
_RDB_PLACES = (
    (r"first", "rdb_in"),
    (r"last", "rdb_out"),
    (r"tail_blocks\.1", "rdb_2_1"),
    (r"tail_blocks\.0", "rdb_1_1"),
    (r"grid\.(\d)\.(\d)", r"rdb_module.\1_\2"),
)
_RDB_PARTS = (
    (r"dense\.layers\.(?P<layer>\d)", r"residual_dense_layers.\g<layer>.conv"),
    (r"dense_normed\.layers\.(?P<layer>\d)", r"residual_dense_layers_no_style.\g<layer>.conv"),
    (r"dense\.merge", "conv_1x1_a"),
    (r"dense_normed\.merge", "conv_1x1_b"),
    (r"style_r", "conv_1x1_style"),
    (r"style_t", "conv_1x1_style_rt"),
    (r"global_style", "style"),
    (r"(?P<map>gamma|beta)_(?P<style>[rt])", r"conv_\g<map>_\g<style>"),
    (r"mask_a", "conv_att_A"),
    (r"mask_b", "conv_att_B"),
    (r"merge", "conv_1x1_final"),
    (r"attention\.squeeze", "ca.ca.0"),
    (r"attention\.excite", "ca.ca.2"),
)
_CONTEXT = ("conv1", "conv2_atrous", "conv3_atrous", "conv4_atrous", "conv5_atrous", "conv6")
_KIND = r"\.(?P<kind>weight|bias)"

MSDA = KeyMap(
    signature="rdb_module.0_0.conv_1x1_style_rt.weight",
    unused=(
        r"offset_conv[12]\.(weight|bias)",
        r"rdb_(in|out|\d_\d|module\.\d_\d)\.(coefficient|(conv_1x1_c|conv_a|conv_r)\.(weight|bias))",
        r"rdb_(in|out|\d_\d|module\.\d_\d)\.rt_residual_dense_layers\.\d\.conv\.(weight|bias)",
    ),
    rules=(
        (r"fusion", "coefficient"),
        *(
            (rf"{place}\.{part}{_KIND}", rf"{their_place}.{their_part}.\g<kind>")
            for place, their_place in _RDB_PLACES
            for part, their_part in _RDB_PARTS
        ),
        (r"down\.(\d)\.(\d)\.shrink" + _KIND, r"downsample_module.\1_\2.conv1.\g<kind>"),
        (r"down\.(\d)\.(\d)\.widen" + _KIND, r"downsample_module.\1_\2.conv2.\g<kind>"),
        (r"up\.(\d)\.(\d)\.grow" + _KIND, lambda m: f"upsample_module.{m[1]}_{_up(m[2], 3)}.deconv.{m['kind']}"),
        (r"up\.(\d)\.(\d)\.narrow" + _KIND, lambda m: f"upsample_module.{m[1]}_{_up(m[2], 3)}.conv.{m['kind']}"),
        (r"context\.(\d)" + _KIND, lambda m: f"{_CONTEXT[int(m[1])]}.{m['kind']}"),
        (r"tail_up\.(\d)\.grow" + _KIND, lambda m: f"upsamle{2 - int(m[1])}.deconv.{m['kind']}"),
        (r"tail_up\.(\d)\.narrow" + _KIND, lambda m: f"upsamle{2 - int(m[1])}.conv.{m['kind']}"),
    ),
)

SPAGAN = KeyMap(
    signature="SAM1.irnn1.up_weight.weight",
    unused=(r"SAM1\.conv_in\.weight", r"SAM1\.attention_layer\.conv\d\.(weight|bias)"),
    rules=(
        (r"conv_(in|out)\.weight", r"conv_\1.0.weight"),
        (r"blocks\.(\d+)\.conv(\d)\.weight", lambda m: f"res_block{_up(m[1])}.group1.conv{m[2]}.weight"),
        (r"attention\.conv_in" + _KIND, r"SAM1.conv1.\g<kind>"),
        (r"attention\.conv_mid" + _KIND, r"SAM1.conv2.\g<kind>"),
        (r"attention\.conv_out" + _KIND, r"SAM1.conv3.\g<kind>"),
        (r"attention\.pass(\d)\.(up|right|down|left)" + _KIND, r"SAM1.irnn\1.\2_weight.\g<kind>"),
        (r"attention\.to_mask\.weight", "SAM1.conv_out.weight"),
    ),
)

_BLOCK = {
    "expand1": "conv1",
    "depthwise": "conv2",
    "project1": "conv3",
    "expand2": "conv4",
    "project2": "conv5",
    "by_mean": "sca_avg.1",
    "by_max": "sca_max.1",
    "time": "time_emb.1",
}
_PLACES = (
    (r"encoder\.(\d)\.(\d+)", r"encoders.\1.\2"),
    (r"condition\.levels\.(\d)\.(\d+)", r"cond_encoders.\1.\2"),
    (r"decoder\.(\d)\.(\d+)", r"decoders.\1.\2"),
    (r"middle\.(\d+)", r"middle_blks.\1"),
)

DIFFCR = KeyMap(
    signature="cond_intro.weight",
    unused=(r"cond_downs\.3\.(weight|bias)",),
    rules=(
        *(
            (rf"{place}\.{part}{_KIND}", rf"{theirs}.{_BLOCK[part]}.\g<kind>")
            for place, theirs in _PLACES
            for part in _BLOCK
        ),
        *((rf"{place}\.(?P<rest>(norm[12]\.)?\w+)", rf"{theirs}.\g<rest>") for place, theirs in _PLACES),
        (r"time\.(\d)" + _KIND, r"map.\1.\g<kind>"),
        (r"condition\.intro" + _KIND, r"cond_intro.\g<kind>"),
        (r"condition\.downs\.(\d)" + _KIND, r"cond_downs.\1.\g<kind>"),
        (r"ups\.(\d)\.weight", r"ups.\1.0.weight"),
        (r"outro" + _KIND, r"ending.\g<kind>"),
    ),
)
