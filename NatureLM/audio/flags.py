"""The short codes that qualify a recording or a window, with their meaning in one sentence.

FLAGS go on rows that have an answer; FAULTS are the codes of recordings that could not be read. Literal tables, so that the
documentation and the command line print what the code does. The surprise: ``energy_above_*kHz`` names the limit that was heard.
"""

from __future__ import annotations

FLAGS: dict[str, str] = {
    "truncated": "The file ends before its header or its format says; what is there was analysed.",
    "FL005": "The header gives the size of the file as the size of its audio; all samples were analysed.",
    "FL012": "The header says that there is no audio, but there is; all samples were analysed.",
    "size_wrapped": "The file has outgrown the 4 GB that its header can count; all samples were analysed.",
    "suffix_mismatch": "The name says one format and the content another; the content was believed.",
    "gap": "A stretch could not be decoded; silence stands in its place, and times after it stay right.",
    "rate_change": "The sample rate changes within the file; what follows the change was left out.",
    "decoder_fallback": "The first decoder gave up within the file; a second one went on at the same sample.",
    "not_finite": "Some samples were not numbers or infinite; they were set to zero.",
    "overrange": "Some samples lie beyond full scale; they were clipped.",
    "dc_offset": "The waveform was off centre; the offset was removed.",
    "silent": "Nothing but digital silence.",
    "bandwidth_4kHz": "Sampled at 8 kHz or less: nothing above 4 kHz can be heard.",
    "energy_above_8kHz": "Most of the energy lies above 8 kHz, where this model is deaf; --ultrasonic plays such recordings slower.",
    "energy_above_24kHz": "Most of the energy lies above 24 kHz, where this model is deaf; --ultrasonic plays such recordings slower.",
    "forced_rate": "The sample rate was given by the user, not taken from the header.",
    "too_short": "Shorter than asked for; left out.",
}
"""Code of a flag -> what it means."""

FAULTS: dict[str, str] = {
    "OE004 empty": "The file holds no bytes.",
    "FL001 stub": "The header announces audio, but none was ever written.",
    "no_audio": "The file holds no samples.",
    "not_audio": "The content is something else than audio.",
    "bad_header": "The header contradicts itself or is damaged.",
    "implausible_rate": "The sample rate is below 4 kHz or above 1 MHz; --force-rate reads the file all the same.",
    "undecodable": "The format is known, but no decoder could read it.",
    "too_short": "The recording is shorter than asked for.",
    "audio_too_long": "The recording is longer than allowed.",
    "missing": "There is no such file.",
    "no_permission": "The file may not be read.",
    "not_a_file": "A folder, pipe or device, not a file.",
    "no_recordings": "The folder or pattern leads to no recordings.",
    "bad_array": "The array has no shape, type or rate that audio can have.",
    "unreadable": "The file could not be read.",
}
"""Code of a fault -> what it means."""


def describe(code: str) -> str:
    """Return the meaning of a flag or a fault; of an unknown code, the code itself."""
    if code.startswith("energy_above_") and code not in FLAGS:
        return FLAGS["energy_above_8kHz"].replace(
            "8 kHz", code.removeprefix("energy_above_").replace("kHz", " kHz")
        )
    return FLAGS.get(code) or FAULTS.get(code) or code
