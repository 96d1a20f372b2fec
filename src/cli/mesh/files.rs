//! Mesh files as given: files, directories of them, standard input.

use crate::mesh::document::{FILE_MAX, Text};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// What a directory is searched for.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// Reads all files, in the order given; those of a directory by name. What cannot be read says so in its place.
pub(super) fn read(paths: &[PathBuf]) -> Vec<Text> {
    let mut texts = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            texts.push(Text { file: "stdin".to_owned(), text: text(std::io::stdin()) });
            continue;
        }
        match expand(path) {
            Ok(files) => texts.extend(files.iter().map(|path| {
                let text = File::open(path).map_err(|error| unreadable(&error)).and_then(text);
                Text { file: path.display().to_string(), text }
            })),
            Err(why) => texts.push(Text { file: path.display().to_string(), text: Err(why) }),
        }
    }
    texts
}

/// The file, or the mesh files of the directory.
fn expand(path: &Path) -> Result<Vec<PathBuf>, String> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = std::fs::read_dir(path).map_err(|error| unreadable(&error))?;
    let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    found.retain(|path| EXTENSIONS.iter().any(|known| path.extension().is_some_and(|extension| extension == *known)));
    found.sort();
    if found.is_empty() { Err("no mesh files (*.yaml, *.yml, *.json) here".to_owned()) } else { Ok(found) }
}

fn text(source: impl Read) -> Result<String, String> {
    let mut bytes = Vec::new();
    // One byte more than allowed tells that there is more.
    let limit = u64::try_from(FILE_MAX).unwrap_or(u64::MAX).saturating_add(1);
    source.take(limit).read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
    // First, because cutting may have split a character.
    if bytes.len() > FILE_MAX {
        return Err(format!("the file is larger than {FILE_MAX} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "is not UTF-8 text".to_owned())
}

fn unreadable(error: &std::io::Error) -> String {
    format!("cannot be read: {error}")
}
