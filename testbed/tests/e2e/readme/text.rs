//! What a document shows: its blocks of code, the commands in them, and those in its sentences.

use std::fs;
use std::path::Path;

/// A document of the repository, by its path there.
pub(super) fn document(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
}

/// The blocks of a document in a language, in their order.
pub(super) fn blocks(document: &str, language: &str) -> Vec<String> {
    let all = fenced(document).into_iter().filter(|(of, _)| *of == language);
    all.map(|(_, block)| block.to_owned()).collect()
}

/// A command of a block, and how many blocks of configuration stand in front of it.
#[derive(Clone, Debug)]
pub(super) struct Command {
    pub(super) line: String,
    pub(super) configurations: usize,
}

/// The commands of a document's blocks for a shell, without comments.
pub(super) fn commands(document: &str) -> Vec<Command> {
    let (mut all, mut configurations) = (Vec::new(), 0);
    for (language, block) in fenced(document) {
        configurations += usize::from(language == "toml");
        if language != "sh" {
            continue;
        }
        for line in block.lines().flat_map(|line| line.split('#').next().unwrap().split(';')) {
            let line = line.trim().to_owned();
            if !line.is_empty() {
                all.push(Command { line, configurations });
            }
        }
    }
    all
}

/// The commands of `weir` in a document's sentences, each once.
pub(super) fn inline(document: &str) -> Vec<String> {
    // Every second piece is code, and of blocks the first line of what is between two fences is not.
    let prose: Vec<_> = document.split("```").step_by(2).collect();
    let spans = prose.iter().flat_map(|text| text.split('`').skip(1).step_by(2));
    let mut all: Vec<_> =
        spans.filter(|span| span.starts_with("weir ")).map(str::to_owned).collect();
    all.sort();
    all.dedup();
    all
}

/// Blocks between fences, each with its language.
fn fenced(document: &str) -> Vec<(&str, &str)> {
    let blocks = document.split("```").skip(1).step_by(2);
    blocks.map(|block| block.split_once('\n').expect("a fence has a line of its own")).collect()
}

#[test]
fn blocks_commands_and_sentences_are_told_apart() {
    let document = "A `weir b` c\n```toml\nx = 1\n```\n```sh\nweir d; weir e # f\n\n```\nand `g`.";
    assert_eq!(blocks(document, "toml"), ["x = 1\n"]);
    let commands = commands(document).into_iter().map(|one| (one.line, one.configurations));
    let expected = [("weir d".to_owned(), 1), ("weir e".to_owned(), 1)];
    assert_eq!(commands.collect::<Vec<_>>(), expected);
    assert_eq!(inline(document), ["weir b"]);
}
