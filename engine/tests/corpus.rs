//! Replays the corpora of this crate's fuzz targets.

use std::fs;
use std::path::Path;

#[test]
fn the_corpora_replay() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    for (name, target) in flumen_engine::fuzzing::TARGETS {
        let mut inputs = 0;
        for entry in fs::read_dir(corpora.join(name)).expect("every target has a corpus") {
            target(&fs::read(entry.expect("the folder is readable").path()).expect("a readable file"));
            inputs += 1;
        }
        assert!(inputs > 0, "the corpus of {name} is empty");
    }
}
