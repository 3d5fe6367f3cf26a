"""``naturelm serve``: a model behind HTTP.

Knows options and printing. Bound to this machine only unless told otherwise; files are read only from folders that are named, and
URLs never.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from NatureLM.serve import PROTOCOLS, require_web

if TYPE_CHECKING:
    from NatureLM.serve.limits import Limits

MIB = 2**20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("--protocol", choices=tuple(PROTOCOLS), default="predictions-v1", help="(predictions-v1)")
    add("--model", default="pocket", metavar="NAME", help="a folder, a hub id or pocket (pocket)")
    add("--device", default="auto", metavar="auto|cpu|cuda|mps", help="where to work (auto)")
    add("--host", default="127.0.0.1", help="address to listen on (127.0.0.1: this machine only)")
    add("--port", type=int, default=8000, help="port; 0 takes a free one (8000)")
    add("--max-batch-size", type=int, default=16, metavar="N", help="questions a request (16)")
    add("--queue-limit", type=int, default=256, metavar="N", help="questions that wait (256)")
    add("--batch-wait-ms", type=float, default=10.0, metavar="MS", help="wait for company (10)")
    add("--max-body-mib", type=float, default=64.0, metavar="N", help="size of a request (64)")
    add("--max-audio-mib", type=float, default=32.0, metavar="N", help="size of a recording (32)")
    add("--max-audio-seconds", type=float, default=60.0, metavar="S", help="its length (60)")
    add("--max-new-tokens", type=int, default=300, metavar="N", help="tokens of an answer (300)")
    add(
        "--allow-files",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="take file_path payloads from this folder; repeat for several (none)",
    )


def run(args: argparse.Namespace) -> int:
    """Load the model and serve until stopped."""
    require_web()
    from NatureLM.infer.device import choose_device, load_model
    from NatureLM.serve.app import bound, build_app, is_loopback, serve
    from NatureLM.serve.service import Service

    limits = _limits(args)
    with closing(bound(args.host, args.port)) as listener:
        service = Service(load_model(args.model, choose_device(args.device)), limits)
        app = build_app(service, (args.protocol,), args.host)

        def ready(address: str) -> None:
            said = f"{service.model.name} answers {args.protocol} at {address} (Ctrl-C stops)"
            print(f"naturelm: {said}", file=sys.stderr, flush=True)
            if not is_loopback(args.host):
                warning = f"{args.host} can be reached from other machines, without a password"
                print(f"naturelm: warning: {warning}", file=sys.stderr, flush=True)

        serve(app, listener, ready)
    return 0


def _limits(args: argparse.Namespace) -> Limits:
    from NatureLM.serve.limits import Limits

    return Limits(
        max_batch_size=args.max_batch_size,
        queue_limit=max(args.queue_limit, args.max_batch_size),
        wait_s=args.batch_wait_ms / 1000,
        max_body_bytes=int(args.max_body_mib * MIB),
        max_audio_bytes=int(args.max_audio_mib * MIB),
        max_audio_s=args.max_audio_seconds,
        max_new_tokens=args.max_new_tokens,
        allowed_folders=tuple(args.allow_files),
    )
