"""Where the known collections come from: their files on their own hosts, or what to do by hand.

How a file is fetched is in `download`, what is done with it in `datasets`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kinocell.data.download import Source, fetch
from kinocell.errors import DownloadError, pick


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """One collection."""

    about: str
    """What comes, in one line."""
    sources: Sequence[Source]
    """Alternatives; none where there is no open link."""
    by_hand: str
    """What a person does where no source answers."""


COLLECTIONS: Mapping[str, Collection] = {
    "ucf101": Collection(
        about="UCF101, 13,320 videos, 6.5 GiB, from the University of Central Florida",
        sources=(
            Source(url="https://www.crcv.ucf.edu/data/UCF101/UCF101.rar"),
            Source(url="https://www.crcv.ucf.edu/datasets/human-actions/ucf101/UCF101.rar"),
            Source(
                url="https://storage.googleapis.com/thumos14_files/UCF101_videos.zip",
                num_bytes=6_960_400_115,
                checksum="sha256:dabf56f573cd19c79e096563529fec8126a2a34e18e10c72eb621dd687532b0d",
            ),
        ),
        by_hand="The page is https://www.crcv.ucf.edu/data/UCF101.php; put UCF101.rar into the "
        "folder, then `kinocell prepare --dataset ucf101 --root FOLDER`.",
    ),
    "hmdb51": Collection(
        about="HMDB51, 6,766 videos, 2 GiB, from the Serre lab at Brown University",
        sources=tuple(
            Source(
                url=f"{host}/wp-content/uploads/2013/10/hmdb51_org.rar",
                checksum="md5:517d6f1f19f215c45cdd4d25356be1fb",
            )
            for host in ("https://serre-lab.clps.brown.edu", "http://serre-lab.clps.brown.edu")
        ),
        by_hand="The page is https://serre-lab.clps.brown.edu/resource/"
        "hmdb-a-large-human-motion-database/; put hmdb51_org.rar into the folder, then `kinocell "
        "prepare --dataset hmdb51 --root FOLDER`.",
    ),
    "kinetics": Collection(
        about="Kinetics: no single link, fetched with its own scripts",
        sources=(),
        by_hand="Kinetics is hundreds of archives. Fetch them with the scripts of "
        "https://github.com/cvdfoundation/kinetics-dataset, the csv lists too, into one folder, "
        "then `kinocell prepare --dataset kinetics --root FOLDER`.",
    ),
    "ssv2": Collection(
        about="Something-Something v2: no open link, given out after registration",
        sources=(),
        by_hand="Something-Something v2 is given out by Qualcomm after registration: "
        "https://www.qualcomm.com/developer/software/something-something-v-2-dataset. Join the "
        "parts (`cat 20bn-something-something-v2-?? | tar -xz`), put the json lists beside them, "
        "then `kinocell prepare --dataset ssv2 --root FOLDER`.",
    ),
}


def download(name: str, folder: Path, mirror: str = "") -> Path:
    """Fetch the videos of a collection.

    Args:
        name: In COLLECTIONS.
        folder: Where the archive goes.
        mirror: Another place of the first source's file, asked before the others.

    Returns:
        The archive.

    Raises:
        ConfigError: There is no such collection.
        DownloadError: No host gives it, it has no open link, or the disk has no room.
    """
    collection = pick(COLLECTIONS, name, "collection")
    if not collection.sources:
        raise DownloadError(collection.by_hand)
    sources = list(collection.sources)
    if mirror:
        if not mirror.startswith(("http://", "https://")):
            raise DownloadError(f"--mirror is {mirror!r}; it takes the http(s) address of a file.")
        same = [source for source in sources if source.name == Source(url=mirror).name]
        sources.insert(0, replace(same[0], url=mirror) if same else Source(url=mirror))
    return fetch(sources, folder, by_hand=collection.by_hand)
