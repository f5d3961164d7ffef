"""Where class folders lie, and which of them are found."""

from pathlib import Path

from artifacts import layout


def test_a_class_folder_and_its_backbone() -> None:
    folder = layout.class_folder(Path("r"), 2, "visa_pcb1")
    assert folder == Path("r/models/backbone_2/visa_pcb1")
    assert layout.backbone_index(folder) == 2
    assert layout.backbone_index(Path("r/models/backbone_x/visa_pcb1")) is None


def test_the_backbone_of_a_card_lies_beside_the_class_folders() -> None:
    kept = layout.class_folder(Path("/r"), 0, "mvtec_nut") / layout.KEPT_BACKBONE
    assert kept.resolve() == layout.models_folder(Path("/r"), 0).resolve() / layout.BACKBONE_FILE


def test_class_folders_are_found_in_order_and_nothing_else(tmp_path: Path) -> None:
    assert layout.class_folders(tmp_path) == []
    wanted = [layout.class_folder(tmp_path, index, name) for index, name in ((0, "a"), (0, "b"), (1, "a"))]
    for folder in reversed(wanted):
        folder.mkdir(parents=True)
    (layout.models_folder(tmp_path, 0) / layout.BACKBONE_FILE).write_bytes(b"")
    (tmp_path / layout.MODELS / "plan.json").write_text("{}")
    assert layout.class_folders(tmp_path) == wanted
