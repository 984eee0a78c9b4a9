"""Decides what is said to SagooIOT devices, where that differs from what `messages` says (device protocol §4).

Two channels: the topics of all devices, and two paths over HTTP. `services.offers` builds with it, `web.sagoo` reads
and answers with it. Bytes and values only: it knows no batches, no connections and no clock. A parser returns a value
or raises `Malformed`, and nothing else.
"""

from __future__ import annotations

import dataclasses
import hmac
import re
from collections.abc import Mapping
from typing import Any

import orjson

from reconciler.domain import resources
from reconciler.protocol import messages, topics
from reconciler.protocol.messages import Malformed

GET_INFO = "/base-api/openapi/v1/ota/get_ota_info"
"""Where a device asks for its package over HTTP."""
WRITE_INFO = "/base-api/openapi/v1/ota/write_ota_info"
"""Where a device reports its progress over HTTP."""

_ACCEPTED = 0
_OVER_HTTP = ("size", "version", "isDiff", "url", "sign")
_RUN = re.compile(r"[0-9]{1,18}", re.ASCII)


@dataclasses.dataclass(frozen=True, slots=True)
class Offered:
    """A package for a SagooIOT device, and of which batch it is.

    Attributes:
        package: of one file, behind a URL: there are no streams and no second file for these devices.
        strategy: the batch's number; the device echoes it in what it says about this upgrade.
        md5_name: how MD5 is called.
    """

    package: messages.PackageInfo
    strategy: int
    md5_name: str = resources.Md5Name.CLASSIC


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """A device asks for its package over HTTP, and says which version it runs."""

    device: str
    """Its name. A SagooIOT device knows of no product key."""
    version: str | None = None
    module: str = messages.DEFAULT_MODULE
    product_key: str | None = None
    """Of ours: for a device whose name others have, too."""


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """A device says over HTTP how far it got."""

    device: str
    said: messages.Progress
    product_key: str | None = None


# -------------------------------------------------------------------------------------------- topics


def push(offered: Offered, now_ms: int) -> bytes:
    """The push of a package: `code` is `"200"`, and `extData` begins with the batch's number.

    Args:
        offered: what to tell.
        now_ms: milliseconds since 1970; the message's id.
    """
    return orjson.dumps({"code": "200", "data": _data(offered), "id": now_ms, "message": "success"})


def get_reply(request_id: int | str, offered: Offered | None) -> bytes:
    """The answer to `messages.FirmwareGet`; without a package it says that there is nothing to do."""
    data = _data(offered) if offered else {}
    return orjson.dumps({"id": request_id, "code": "200", "data": data})


def _data(offered: Offered) -> dict[str, Any]:
    data = messages.package_data(offered.package)
    if offered.package.sign_method is messages.SignMethod.MD5:
        data["signMethod"] = str(offered.md5_name)
    return data | {"extData": _extra(offered, data)}


def _extra(offered: Offered, data: Mapping[str, Any]) -> dict[str, Any]:
    """First, so that no text in a tag can be taken for it (trap 4); a number, as SagooIOT has it."""
    return {"strategy": offered.strategy, **data.get("extData", {})}


# ---------------------------------------------------------------------------------------------- HTTP


def parse_question(query: Mapping[str, str]) -> Question:
    """A device's question, from the query of the URL.

    Raises:
        Malformed: a name in it can't be one.
    """
    version = query.get("version") or None
    if version is not None and not resources.NUMERIC_VERSION.fullmatch(version):
        raise Malformed("version is not x.y.z in digits")
    return Question(
        _device(query.get("deviceKey")),
        version,
        messages.read_module(query),
        _product_key(query.get("productKey")),
    )


def parse_report(body: bytes) -> Report:
    """A device's report of its progress. What `messages` accepts of a step is accepted here, too (trap 10).

    Raises:
        Malformed: the body is no such report.
    """
    params = messages.read_part(messages.read_object(body), "params")
    return Report(
        _device(params.get("deviceKey")),
        messages.read_progress(params),
        _product_key(params.get("productKey")),
    )


def inform_payload(version: str, module: str) -> bytes:
    """A version that was reported over HTTP, as if it had come on the topic for it."""
    return orjson.dumps({"params": {"version": version, "module": module}})


def firmware_get_payload(module: str) -> bytes:
    """A question that was asked over HTTP, as if it had come on the topic for it."""
    return orjson.dumps({"params": {"module": module}})


def progress_payload(said: messages.Progress, module: str) -> bytes:
    """A progress that was reported over HTTP, as if it had come on the topic for it."""
    params = {"step": said.step, "desc": said.desc, "module": module, "strategy": said.strategy}
    return orjson.dumps({"params": params})


def run_of(strategy: str | None) -> int | None:
    """The batch that a device means; None when it names none that there can be."""
    return int(strategy) if strategy is not None and _RUN.fullmatch(strategy) else None


def ota_info(offered: Offered | None) -> bytes:
    """The answer to `Question`; without a package it says that there is nothing to do."""
    if offered is None:
        return _answer(_ACCEPTED, data={})
    told = messages.package_data(offered.package)
    data: dict[str, Any] = {name: told[name] for name in _OVER_HTTP if name in told}
    data["signMethod"] = offered.package.sign_method.value.lower()
    data["module"] = offered.package.module
    return _answer(_ACCEPTED, data=data | {"extData": _extra(offered, told)})


def accepted() -> bytes:
    """The answer to `Report`."""
    return _answer(_ACCEPTED)


def refusal(code: int, why: str) -> bytes:
    """The answer to what can't be answered.

    Args:
        code: HTTP's.
        why: for whoever writes the firmware: one line.
    """
    return _answer(code, why)


def is_signed(query: Mapping[str, str], access_key: str, secret_key: str) -> bool:
    """Whether a request is signed with the keys that SagooIOT calls AK and SK.

    The query has `ak`, `time` and `sign`: the HMAC-SHA256, in hex of either case, of `ak=…&time=…`. How old it is isn't
    looked at, as in every login of a device: it may have no clock (trap 11).
    """
    text = f"ak={access_key}&time={query.get('time', '')}"
    expected = hmac.digest(secret_key.encode(), text.encode(), "sha256").hex()
    given = query.get("sign", "").lower()
    known = hmac.compare_digest(query.get("ak", "").encode(), access_key.encode())
    return hmac.compare_digest(given.encode(), expected.encode()) and known


def _answer(code: int, message: str = "", **more: Any) -> bytes:
    return orjson.dumps({"code": code, "message": message, **more})


def _device(name: object) -> str:
    if not isinstance(name, str) or not topics.DEVICE_NAME.fullmatch(name):
        raise Malformed("deviceKey is not a device's name")
    return name


def _product_key(key: object) -> str | None:
    if not key:
        return None
    if not isinstance(key, str) or not topics.PRODUCT_KEY.fullmatch(key):
        raise Malformed("productKey is not a product's key")
    return key
