"""Names: lookups go both ways, ranks are complete, faults are named."""

from __future__ import annotations

import csv
from collections import Counter
from importlib import resources

import pytest

from NatureLM.errors import FormatError
from NatureLM.taxonomy.names import Taxon, Taxonomy, load_taxonomy

LABELS = """\
Turdus migratorius_American Robin
Dryophytes cinereus_Green Treefrog
Ploceus galbula_Rüppell's Weaver
Dog_Dog
Human vocal_Human vocal
Gryllus assimilis_Gryllus assimilis"""
BIRDS = """\
scientific_name,ebird_common_name,ebird_ebird_code,ebird_order,ebird_family,genus
Turdus migratorius,American Robin,amerob,Passeriformes,Turdidae,Turdus
Ploceus galbula,Rüppell's Weaver,ruewea1,Passeriformes,Ploceidae,Ploceus
"""


@pytest.fixture
def files(tmp_path):
    labels, birds = tmp_path / "labels.txt", tmp_path / "birds.csv"
    labels.write_text(LABELS, encoding="utf-8")
    birds.write_text(BIRDS, encoding="utf-8")
    return labels, birds


@pytest.fixture
def taxonomy(files):
    return load_taxonomy(*files)


def test_every_class_keeps_its_place_and_is_found_by_all_its_names(taxonomy):
    assert len(taxonomy) == 6
    for place, taxon in enumerate(taxonomy):
        assert taxon.index == place
        assert taxonomy[place] is taxon
        for spelt in (taxon.common, taxon.common.upper(), f"  {taxon.common.lower()} "):
            assert taxonomy.by_common(spelt) is taxon
        if taxon.scientific:
            assert taxonomy.by_scientific(taxon.scientific.lower()) is taxon
            assert taxonomy.find(taxon.scientific) is taxon


def test_ranks_of_a_bird_a_frog_a_dog_and_a_voice(taxonomy):
    assert taxonomy[0] == Taxon(
        0,
        "American Robin",
        "Turdus migratorius",
        "Turdus",
        "Turdidae",
        "Passeriformes",
        "Aves",
        "bird",
    )
    assert taxonomy[1] == Taxon(
        1,
        "Green Treefrog",
        "Dryophytes cinereus",
        "Dryophytes",
        "Hylidae",
        "Anura",
        "Amphibia",
        "frog",
    )
    dog, voice = taxonomy[3], taxonomy[4]
    assert (dog.scientific, dog.kind, dog.is_animal) == ("Canis familiaris", "mammal", True)
    assert voice == Taxon(4, "Human vocal", "", "", "", "", "", "sound")
    assert not voice.is_animal


def test_unknown_and_empty_names_are_not_found(taxonomy):
    assert taxonomy.find("Chimpanzee") is None
    assert taxonomy.by_scientific("") is None
    assert taxonomy.members("family", "") == ()
    assert taxonomy.members("family", "Hominidae") == ()


def test_a_curly_apostrophe_is_an_apostrophe(taxonomy):
    assert taxonomy.by_common("Rüppell\N{RIGHT SINGLE QUOTATION MARK}s weaver") is taxonomy[2]


def test_groups_split_the_classes_that_have_the_rank(taxonomy):
    for rank in ("genus", "family", "order", "klass", "kind"):
        grouped = [t for name in taxonomy.names(rank) for t in taxonomy.members(rank, name)]
        assert Counter(grouped) == Counter(t for t in taxonomy if t.at(rank))
    assert [t.common for t in taxonomy.members("order", "passeriformes")] == [
        "American Robin",
        "Rüppell's Weaver",
    ]


def test_faults_say_where_and_what(files, tmp_path):
    labels, birds = files
    labels.write_text("Turdus migratorius American Robin", encoding="utf-8")
    with pytest.raises(FormatError, match=r"labels.txt:1: found 'Turdus migratorius American"):
        load_taxonomy(labels, birds)
    labels.write_text("Pan troglodytes_Chimpanzee", encoding="utf-8")
    with pytest.raises(FormatError, match=r"'Pan troglodytes' is neither in birds.csv"):
        load_taxonomy(labels, birds)
    birds.write_text("scientific_name,family\n", encoding="utf-8")
    with pytest.raises(FormatError, match="column 'ebird_order' is missing"):
        load_taxonomy(labels, birds)


def test_two_classes_may_not_share_a_name_or_a_place(taxonomy):
    with pytest.raises(FormatError, match="names two classes, 0 and 1"):
        Taxonomy([taxonomy[0], Taxon(1, "american robin", "X y", "X", "f", "o", "k", "bird")])
    with pytest.raises(FormatError, match="stands at place 0"):
        Taxonomy([taxonomy[1]])


def test_the_shipped_table_is_complete_and_sorted():
    text = resources.files("NatureLM.taxonomy").joinpath("others.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    names = [row["name"] for row in rows]
    assert names == sorted(set(names))
    for row in rows:
        ranks = [row["family"], row["order"], row["class"]]
        assert all(ranks) == (row["kind"] != "sound")
        assert any(ranks) == all(ranks)
        assert row["kind"] in {"frog", "insect", "mammal", "sound"}
