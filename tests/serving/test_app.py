"""The other routes, and the form of every error."""

from typing import NoReturn

import openai
import pytest

from branchwise.backends.scripted.backend import ScriptedBackend
from tests.support.serving_lab import CHAT, RIGHT, scripted, serving


async def test_models_list_the_model_with_each_strategy() -> None:
    async with serving(scripted(RIGHT)) as served:
        names = [model.id async for model in served.client.models.list()]
        assert {"scripted", "scripted@path-consistency", "scripted@mcts"} <= set(names)
        for name in names:
            response = await served.chat(model=name)
            assert response.status_code == 200, (name, response.text)
        assert (await served.client.models.retrieve("scripted@esc")).owned_by == "branchwise"
        with pytest.raises(openai.NotFoundError):
            await served.client.models.retrieve("gpt-7")
        with pytest.raises(openai.NotFoundError, match="gpt-7"):
            await served.client.chat.completions.create(model="gpt-7", messages=[{"role": "user", "content": "q"}])


async def test_errors_have_openai_s_form() -> None:
    async with serving(ScriptedBackend({"": ["42"]})) as served:
        wrong = [
            (await served.http.get("/v1/nothing"), 404),
            (await served.http.get(CHAT), 405),
            (await served.http.post("/health"), 405),
            (await served.http.post(CHAT, content=b"{}", headers={"content-type": "text/plain"}), 415),
            (await served.http.post(CHAT, json={}), 400),
        ]
    for response, status in wrong:
        assert response.status_code == status
        assert set(response.json()["error"]) == {"message", "type", "param", "code"}


async def test_internal_errors_reveal_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(request: object) -> NoReturn:
        raise ZeroDivisionError("division by zero")

    async with serving(ScriptedBackend({"": ["42"]})) as served:
        monkeypatch.setattr(served.completions, "resolve", fail)
        response = await served.chat()
    assert (response.status_code, response.json()["error"]["code"]) == (500, "internal_error")
    assert "zero" not in response.text
