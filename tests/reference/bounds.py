"""What a batch may ask for: the limits of platform-rules.md §4, each refusal one sentence."""

from __future__ import annotations

from dataclasses import replace

from reference.words import DAY, HOUR, MINUTE, PACKAGES_PER_GROUP

INTERVALS = (0, 10 * MINUTE, 30 * MINUTE, HOUR, DAY)
IN_PLACE = {"rate", "timeout", "retry", "tags", "end", "suspend", "state", "on_cancel"}


def problems(spec, package):
    """Everything that is wrong with a batch's manifest, whatever else exists."""
    return [
        *_numbers(spec),
        *_retry(spec),
        *_shape(spec, package),
        *_sources(spec, package),
        *_schedule(spec),
    ]


def _numbers(spec):
    if not 10 <= spec.rate <= 10_000:
        yield "the push rate is 10 to 10,000 devices a minute"
    for name, seconds in (("timeout", spec.timeout),):
        if seconds is not None and (seconds % MINUTE or not 1 <= seconds // MINUTE <= 1440):
            yield f"the {name} is 1 to 1,440 whole minutes"
    if len(spec.tags) > 10:
        yield "at most 10 tags"


def _retry(spec):
    if spec.retry is None:
        return
    interval, limit = spec.retry
    if interval not in INTERVALS or limit not in (1, 2, 5):
        yield "retry: immediately, 10 min, 30 min, 1 h or 24 h; 1, 2 or 5 times"
    if spec.timeout is not None and interval >= spec.timeout:
        yield "the retry's interval must be shorter than the timeout"


def _shape(spec, package):
    kind = spec.target[0]
    if kind == "gray" and spec.strategy == "Dynamic":
        yield "gray is for static batches only"
    if kind == "devices" and len(spec.target) - 1 > 200:
        yield "at most 200 devices in the manifest"
    if spec.conflict == "Overwrite" and spec.multi_module:
        yield "Overwrite and multi-module exclude each other"
    if spec.new_reports_only and spec.strategy != "Dynamic":
        yield "new reports only is for dynamic batches"
    if spec.strategy == "Dynamic" and (kind == "group") == bool(spec.sources):
        yield "a dynamic batch has either source versions or a dynamic group"
    if spec.strategy == "Dynamic" and kind == "devices":
        yield "a dynamic batch has no list of devices"


def _sources(spec, package):
    if spec.sources and spec.target[0] not in ("all", "gray"):
        yield "source versions go only with all and gray"
    if len(spec.sources) > 10 or len(set(spec.sources)) != len(spec.sources):
        yield "at most 10 source versions, each once"
    if package.version in spec.sources:
        yield "the target version itself is no source version"
    if package.source and spec.target[0] in ("all", "gray") and spec.sources != (package.source,):
        yield "with a delta, the source versions equal its source version"


def _schedule(spec):
    if (spec.start, spec.end) == (None, None):
        return
    if spec.strategy != "Static":
        yield "a schedule is for static batches only"
    if spec.start is None:
        yield "an end needs a start"
    elif spec.end is not None and not HOUR <= spec.end - spec.start <= 30 * DAY:
        yield "the end is 1 h to 30 days after the start"


def too_far_ahead(spec, now):
    """§4 schedule: further ahead than 7 days only within the operator's limit (7 days by default)."""
    return spec.start is not None and spec.start - now > 7 * DAY


def effective_start(spec, now):
    """When the batch starts: None = at once (no start, or one that is past or nearer than 5 minutes)."""
    return spec.start if spec.start is not None and spec.start - now >= 5 * MINUTE else None


def immutable(old, new):
    """The fields of a changed batch that can't change in place (§4: `Anything else is refused as immutable`)."""
    allowed = IN_PLACE | ({"sources"} if old.strategy == new.strategy == "Dynamic" else set())
    return sorted(name for name in vars(old) if vars(old)[name] != vars(new)[name] and name not in allowed)


def changed(old, new):
    """The spec of a run that goes on, with what a new manifest may change of it."""
    names = IN_PLACE | ({"sources"} if old.strategy == "Dynamic" else set())
    return replace(old, **{name: getattr(new, name) for name in names})


def clashes(spec, package, others):
    """§4 dynamic batches: what refuses a dynamic batch beside the running dynamic ones, given as (spec, package)."""
    if spec.strategy != "Dynamic":
        return []
    by_group = spec.target[0] == "group"
    found = []
    for other, its in others:
        if its.name != package.name:
            continue
        if by_group or other.target[0] == "group":
            found.append("a package's dynamic batches are version-based, or one group-based")
        elif set(other.sources or (its.source,)) & set(spec.sources or (package.source,)):
            found.append("another dynamic batch of this package has one of these source versions")
    beside = {its.name for other, its in others if by_group and other.target == spec.target} | {package.name}
    if len(beside) > PACKAGES_PER_GROUP:
        found.append("at most 5 packages for one dynamic group")
    return found
