//! Mesh files as given: files, directories of them, standard input.

use super::Failure;
use crate::mesh::document::{FILE_MAX, Text};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// What a directory is searched for.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// Reads all files, in the order given; those of a directory by name.
pub(super) fn read(paths: &[PathBuf]) -> Result<Vec<Text>, Failure> {
    let mut texts = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            texts.push(text("stdin".to_owned(), std::io::stdin())?);
            continue;
        }
        for path in expand(path)? {
            let file = File::open(&path).map_err(|error| unreadable(&path.display().to_string(), &error))?;
            texts.push(text(path.display().to_string(), file)?);
        }
    }
    Ok(texts)
}

/// The file, or the mesh files of the directory.
fn expand(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let name = path.display().to_string();
    let entries = std::fs::read_dir(path).map_err(|error| unreadable(&name, &error))?;
    let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    found.retain(|path| EXTENSIONS.iter().any(|known| path.extension().is_some_and(|extension| extension == *known)));
    found.sort();
    if found.is_empty() {
        return Err(Failure::new(format!("{name}: no mesh files (*.yaml, *.yml, *.json) here")).usage());
    }
    Ok(found)
}

fn text(file: String, source: impl Read) -> Result<Text, Failure> {
    let mut bytes = Vec::new();
    // One more than allowed, so that the parser sees that there is more.
    let limit = u64::try_from(FILE_MAX).unwrap_or(u64::MAX).saturating_add(1);
    source.take(limit).read_to_end(&mut bytes).map_err(|error| unreadable(&file, &error))?;
    // Cutting may have split a character: that must not be taken for a wrong encoding.
    if bytes.len() > FILE_MAX {
        return Err(Failure::new(format!("{file}: the file is larger than {FILE_MAX} bytes")).usage());
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Text { file, text }),
        Err(_) => Err(Failure::new(format!("{file}: is not UTF-8 text")).usage()),
    }
}

fn unreadable(name: &str, error: &std::io::Error) -> Failure {
    Failure::new(format!("{name}: cannot be read: {error}")).usage()
}
