"""The page of `avmix explore`: controls of NiceGUI around what `result_html` writes."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from nicegui import run, ui
from nicegui.events import GenericEventArguments, UploadEventArguments

from avmix.evaluation.clip_shots import Shots, data_url
from avmix.evaluation.most_wrong import WrongClip
from avmix.explore.clip_shelf import ClipShelf, NotOnShelf
from avmix.explore.explored_mix import METHODS, CannotExplore, Explorer
from avmix.explore.result_html import result_html, style
from avmix.system.printing import printable, shortened

_SHOWN_PROBLEMS = 5
_NAME_LETTERS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Gallery:
    """The clips that an evaluation is most wrong about."""

    clips: tuple[WrongClip, ...]
    shots: Shots


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhibition:
    """What all pages of a server share."""

    shelf: ClipShelf
    explorer: Explorer
    gallery: Gallery | None
    max_upload_bytes: int
    lock: asyncio.Lock
    """One mix is computed at a time."""


def build_page(shown: Exhibition) -> None:
    """Declare the page at `/`."""

    @ui.page("/", title="avmix explore", dark=None, language="en-US")
    def page() -> None:
        ui.add_css(style())
        ui.add_head_html('<meta name="robots" content="noindex">')
        _View(shown).build()


class _View:
    """One open page: its controls, and what they show."""

    def __init__(self, shown: Exhibition) -> None:
        self._shown = shown
        self._lam = 0.5
        self._number = 0
        """Of the last change: what an older one asked for is not shown."""

    def build(self) -> None:
        """Lay out the page, with the first two clips."""
        names = self._shown.shelf.names
        ui.html("<h1>avmix explore</h1>", sanitize=False)
        with ui.element("div").classes("controls"):
            self._a = _select(names, "clip A", names[0], self._changed)
            self._b = _select(names, "clip B", names[min(1, len(names) - 1)], self._changed)
            self._method = ui.select(list(METHODS), label="mixing method", value=METHODS[0],
                                     on_change=self._changed)  # fmt: skip
            self._method.props('aria-label="mixing method"')
            with ui.element("div"):
                self._said = ui.label("lambda, the weight of A: 0.50").props('aria-live="polite"')
                # The browser's own: of Quasar's, what has the focus is not what has the role.
                slider = ui.element("input").classes("lambda")
                slider.props("type=range min=0 max=1 step=0.05 value=0.5")
                slider.props('aria-label="lambda, the weight of A"')
                slider.on("input", self._moved, js_handler="(e) => emit(e.target.value)",
                          throttle=0.1, leading_events=False)  # fmt: skip
                self._slider = slider
        ui.upload(
            label=f"upload a clip (up to {self._shown.max_upload_bytes >> 20} MiB)",
            max_file_size=self._shown.max_upload_bytes, auto_upload=True, on_upload=self._uploaded,
            on_rejected=lambda: self._tell("the upload is too large"),
        ).props('flat bordered aria-label="upload a clip"')  # fmt: skip
        self._problem = ui.label("").classes("problem").props('role="alert"')
        self._result = ui.html("", sanitize=False).props('id="result" aria-live="off"')
        self._left_out()
        if self._shown.gallery is not None:
            self._build_gallery(self._shown.gallery)
        ui.timer(0.05, self._changed, once=True)

    def _left_out(self) -> None:
        shelf = self._shown.shelf
        said = [printable(text) for text in shelf.problems[:_SHOWN_PROBLEMS]]
        if (more := len(shelf.problems) - len(said)) > 0:
            said.append(f"and {more} more are not offered")
        if shelf.num_left_out:
            said.append(f"{shelf.num_left_out} further files are not listed; name a smaller --root")
        for text in said:
            ui.label(shortened(text, _NAME_LETTERS)).classes("note")

    async def _moved(self, event: GenericEventArguments) -> None:
        try:
            lam = float(event.args)
        except (TypeError, ValueError):
            return
        self._lam = min(max(lam, 0.0), 1.0)
        self._slider.props["value"] = f"{self._lam:g}"
        await self._changed()

    async def _changed(self) -> None:
        """Show the mix that the controls ask for; of changes that come faster, the last."""
        self._number += 1
        number, lam = self._number, self._lam
        self._said.set_text(f"lambda, the weight of A: {lam:.2f}")
        async with self._shown.lock:
            if number != self._number:
                return
            await self._show(number, lam)

    async def _show(self, number: int, lam: float) -> None:
        shelf, explorer = self._shown.shelf, self._shown.explorer
        try:
            own, partner = shelf.item(self._a.value), shelf.item(self._b.value)
            found = await run.io_bound(explorer.explore, own, partner, str(self._method.value), lam)
        except (CannotExplore, NotOnShelf) as error:
            self._tell(str(error))
            return
        if found is None or number != self._number:
            return
        trained = explorer.trained
        several = trained is not None and trained.config.loss.several_labels
        self._tell("")
        self._result.set_content(str(result_html(
            found, (own.name, partner.name), (own.label, partner.label), several=several
        )))  # fmt: skip

    def _tell(self, problem: str) -> None:
        self._problem.set_text(shortened(printable(problem), _NAME_LETTERS))
        if problem:
            self._result.set_content("")

    async def _uploaded(self, event: UploadEventArguments) -> None:
        shelf = self._shown.shelf
        shown, path = shelf.upload_place(printable(event.file.name))
        await event.file.save(path)
        shelf.add_upload(shown, path)
        self._a.set_options(shelf.names)
        self._b.set_options(shelf.names, value=self._b.value)
        self._a.set_value(shown)

    def _build_gallery(self, gallery: Gallery) -> None:
        ui.html("<h2>The clips that the run is most wrong about</h2>", sanitize=False)
        with ui.element("div").classes("gallery"):
            for clip in gallery.clips:
                self._card(clip, gallery.shots)

    def _card(self, clip: WrongClip, shots: Shots) -> None:
        shot, says = shots.clips.get(clip.clip_id), clip.rows.get("fused")
        name = self._shown.shelf.wrong_clip(clip)
        with ui.element("div").classes("card"):
            for image, kind in (
                () if shot is None else ((shot.frame, "frame"), (shot.spectrogram, "spectrogram"))
            ):
                if image is not None:
                    shown = ui.element("img").classes(kind)
                    shown.props["src"] = data_url(image)
                    shown.props["alt"] = f"{kind} of {printable(clip.path)}"
            ui.label(shortened(printable(clip.path), _NAME_LETTERS)).classes("note")
            answer = f", answered {says.answer} ({100 * says.probability:.0f} %)" if says else ""
            said = f"{', '.join(clip.labels)}{answer}, loss {clip.loss:.2f}"
            ui.label(shortened(printable(said), _NAME_LETTERS))
            if name is None:
                ui.label("not below --root").classes("note")
                return
            for letter, control in (("A", self._a), ("B", self._b)):
                button = ui.button(f"as {letter}", on_click=_chooser(self._shown, control, name))
                button.props(f'flat dense aria-label="take as clip {letter}"')


def _chooser(shown: Exhibition, control: ui.select, name: str) -> Callable[[], None]:
    def choose() -> None:
        control.set_options(shown.shelf.names, value=name)

    return choose


def _select(
    names: list[str], label: str, value: str, changed: Callable[[], Awaitable[Any]]
) -> ui.select:
    found = ui.select(names, label=label, value=value, with_input=True, on_change=changed)
    found.props(f'aria-label="{label}" options-dense')
    return found
