"""The model options of a command: checked before anything is loaded, then loaded into a backend."""

from dataclasses import dataclass

from branchwise.backends.base import Backend
from branchwise.backends.models.load import check_names, engine_settings, load
from branchwise.backends.models.names import DEFAULT_MODEL
from branchwise.backends.models.progress import OnProgress
from branchwise.backends.openai.connect import connect
from branchwise.cli.interrupts import interruptible
from branchwise.cli.options import BACKENDS, ENGINE, SERVER, VLLM
from branchwise.cli.render.progress import fetch_progress
from branchwise.core.errors import require


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """The model that a command uses and the backend that runs it. The fields are the options of the same names."""

    model: str | None
    backend: str | None
    base_url: list[str] | None
    context: int | None
    """Context length of a server's model; None: as it reports."""
    device: str | None
    dtype: str | None
    speculation: str
    deterministic: bool | None
    """None: where the engine supports it."""
    draft_model: str | None

    @property
    def name(self) -> str:
        """The model's name; "" if a server chooses the model."""
        return self.model or ("" if self.base_url else DEFAULT_MODEL)

    def check(self) -> None:
        """Raise ConfigError or ModelError for options that contradict each other, without network access."""
        backend = self._backend_name()
        require(backend in BACKENDS, "backend", f"is {backend!r}", f"use {' or '.join(BACKENDS)}")
        problem = f"is not supported by the backend {backend}"
        require(not self.deterministic or backend == ENGINE, "deterministic", problem, "leave it out")
        if self.base_url:
            require(
                backend == SERVER, "base_url", f"is set, but {backend} runs the model here", "leave one of them out"
            )
            self._require_unset("dtype", "draft_model")  # the device may be that of a verifier
            return
        self._require_unset("context")
        require(backend != SERVER, "backend", "is a server without an address", "add --base-url http://host:port")
        if backend != ENGINE:
            self._require_unset("draft_model")
        check_names(self.name, self.draft_model)  # before torch, whose import takes seconds

    def load(self) -> Backend:
        """Return a backend for the model, fetching it if necessary, with progress on a terminal.

        Raises ConfigError, ModelError, BackendError, MissingExtraError.
        """
        self.check()
        if self.base_url:
            return connect(self.base_url, self.model, context=self.context)
        with interruptible(), fetch_progress(f"loading {self.name}") as progress:
            return self._load_vllm(progress) if self._backend_name() == VLLM else self._load_engine(progress)

    def _backend_name(self) -> str:
        return self.backend or (SERVER if self.base_url else ENGINE)

    def _require_unset(self, *names: str) -> None:
        for name in names:
            problem = f"is not supported by the backend {self._backend_name()}"
            require(getattr(self, name) is None, name, problem, "leave it out")

    def _load_engine(self, progress: OnProgress) -> Backend:
        settings = engine_settings(
            device=self.device,
            dtype=self.dtype,
            speculation=self.speculation,
            draft_model=self.draft_model,
            deterministic=self.deterministic,
        )
        return load(self.name, settings=settings, progress=progress)

    def _load_vllm(self, progress: OnProgress) -> Backend:
        from branchwise.backends.vllm.backend import VLLMBackend
        from branchwise.backends.vllm.settings import VLLMSettings

        return VLLMBackend.load(self.name, VLLMSettings(dtype=self.dtype), progress=progress)
