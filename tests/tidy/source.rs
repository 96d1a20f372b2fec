//! Reading Rust source well enough for house rules: what is code, what is a test, which paths are used, how long
//! functions are. Not a parser: it knows comments, literals, brackets and paths, and that suffices.

use std::fs;
use std::path::Path;

/// One source file.
pub(crate) struct Source {
    /// Path relative to the package, with forward slashes.
    pub(crate) path: String,
    /// The text as written.
    pub(crate) text: String,
    /// The text with comments and literals blanked out, line by line the same.
    pub(crate) code: String,
    /// `code` with test items blanked out too; nothing in a file of tests.
    pub(crate) product: String,
}

impl Source {
    /// Reads a text as if it stood at this path.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let code = without_comments_and_literals(text);
        let product = if is_test_file(path) { String::new() } else { without_test_items(&code) };
        Self { path: path.to_owned(), text: text.to_owned(), code, product }
    }

    /// Segments of the module that the file is: `src/mesh/ops.rs` is `mesh::ops`, `src/lib.rs` nothing.
    pub(crate) fn module(&self) -> Vec<String> {
        let inner = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        if inner == "lib" { Vec::new() } else { inner.split('/').map(str::to_owned).collect() }
    }
}

fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// All `.rs` files under a folder of the package, in path order.
pub(crate) fn rust_files(package: &Path, folder: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut folders = vec![package.join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.expect("a folder that can be listed can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(package).expect("walked from there").to_string_lossy().replace('\\', "/");
                sources.push(Source::new(&name, &fs::read_to_string(&path).expect("source is UTF-8")));
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

/// Number of the line that a byte position is on, counted from 1.
pub(crate) fn line_of(text: &str, position: usize) -> usize {
    text[..position].bytes().filter(|byte| *byte == b'\n').count() + 1
}

/// Blanks comments and the insides of literals. Non-ASCII goes too, so that bytes and characters are the same.
pub(crate) fn without_comments_and_literals(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(characters.len());
    let mut at = 0;
    while at < characters.len() {
        let end = end_of_blank(&characters, at);
        if end > at {
            code.extend(characters[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        } else {
            code.push(if characters[at].is_ascii() { characters[at] } else { ' ' });
            at += 1;
        }
    }
    code
}

/// Where the comment or literal that begins at `at` ends; `at` itself when none does.
fn end_of_blank(text: &[char], at: usize) -> usize {
    let next = text.get(at + 1).copied();
    match text[at] {
        '/' if next == Some('/') => at + text[at..].iter().take_while(|c| **c != '\n').count(),
        '/' if next == Some('*') => end_of_block_comment(text, at),
        '"' => end_of_quoted(text, at, '"'),
        '\'' if next == Some('\\') || (next != Some('\'') && text.get(at + 2) == Some(&'\'')) => {
            end_of_quoted(text, at, '\'')
        }
        'r' if at == 0 || !is_word(text[at - 1]) || text[at - 1] == 'b' => end_of_raw_string(text, at),
        _ => at,
    }
}

fn end_of_block_comment(text: &[char], start: usize) -> usize {
    let (mut depth, mut at) = (0, start);
    while at + 1 < text.len() {
        match (text[at], text[at + 1]) {
            ('/', '*') => depth += 1,
            ('*', '/') => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

fn end_of_quoted(text: &[char], start: usize, quote: char) -> usize {
    let mut at = start + 1;
    while at < text.len() {
        match text[at] {
            '\\' => at += 1,
            c if c == quote => return at + 1,
            _ => {}
        }
        at += 1;
    }
    text.len()
}

fn end_of_raw_string(text: &[char], start: usize) -> usize {
    let hashes = text[start + 1..].iter().take_while(|c| **c == '#').count();
    if text.get(start + 1 + hashes) != Some(&'"') {
        return start;
    }
    let closing: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let body = start + hashes + 2;
    (body..text.len()).find(|at| text[*at..].starts_with(&closing)).map_or(text.len(), |at| at + closing.len())
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Blanks every item behind `#[cfg(test)]` or `#[cfg(any(test, …))]`.
fn without_test_items(code: &str) -> String {
    let mut kept = code.to_owned();
    for marker in ["#[cfg(test)]", "#[cfg(any(test"] {
        while let Some(start) = kept.find(marker) {
            let attribute_end = start + kept[start..].find(']').map_or(kept.len() - start, |at| at + 1);
            let end = end_of_item(&kept, attribute_end);
            let blank: String = kept[start..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
            kept.replace_range(start..end, &blank);
        }
    }
    kept
}

/// End of the item that begins at `start`: its `;`, or the bracket that closes its body.
fn end_of_item(code: &str, start: usize) -> usize {
    let mut depth = 0;
    for (at, byte) in code.bytes().enumerate().skip(start) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' => depth -= 1,
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            b';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

/// Positions at which a token stands by itself. An end of the token that is no letter needs no boundary.
pub(crate) fn token_positions<'a>(code: &'a str, token: &'a str) -> impl Iterator<Item = usize> + 'a {
    let (opens_word, closes_word) = (token.starts_with(is_word), token.ends_with(is_word));
    code.match_indices(token).map(|(at, _)| at).filter(move |at| {
        let goes_on_before = opens_word && code[..*at].ends_with(is_word);
        let goes_on_behind = closes_word && code[at + token.len()..].starts_with(is_word);
        !goes_on_before && !goes_on_behind
    })
}

/// Every function with a body: line, name, number of lines.
pub(crate) fn functions(code: &str) -> Vec<(usize, String, usize)> {
    token_positions(code, "fn ")
        .filter_map(|at| {
            let name: String = code[at + 3..].trim_start().chars().take_while(|c| is_word(*c)).collect();
            let end = end_of_item(code, at);
            let has_body = code[..end].ends_with('}');
            let line = line_of(code, at);
            (has_body && !name.is_empty()).then(|| (line, name, line_of(code, end) - line + 1))
        })
        .collect()
}

/// Every path into this crate that the code of `module` uses, resolved from its root: line and segments.
pub(crate) fn crate_paths(code: &str, module: &[String]) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    for root in ["crate", "tidegate", "super"] {
        for at in token_positions(code, root) {
            let follows = code[at + root.len()..].trim_start();
            if !follows.starts_with("::") || code[..at].trim_end().ends_with("::") {
                continue;
            }
            let above = module.len().saturating_sub(1);
            let prefix = if root == "super" { module[..above].to_vec() } else { Vec::new() };
            let mut paths = Vec::new();
            path_tree(&mut &follows[2..], &prefix, &mut paths);
            found.extend(paths.into_iter().map(|path| (line_of(code, at), path)));
        }
    }
    found
}

/// Takes one path or `{…}` group off the front of `rest` and adds what it names.
fn path_tree(rest: &mut &str, prefix: &[String], paths: &mut Vec<Vec<String>>) {
    let mut path = prefix.to_vec();
    loop {
        *rest = rest.trim_start();
        if let Some(group) = rest.strip_prefix('{') {
            *rest = group;
            return path_group(rest, &path, paths);
        }
        let segment: String = rest.chars().take_while(|c| is_word(*c)).collect();
        *rest = &rest[segment.len()..];
        match segment.as_str() {
            // `*`, `<` or the end: what came before is what is named.
            "" => return paths.push(path),
            "self" => {}
            "super" => drop(path.pop()),
            _ => path.push(segment),
        }
        match rest.trim_start().strip_prefix("::") {
            Some(more) => *rest = more,
            None => return paths.push(path),
        }
    }
}

fn path_group(rest: &mut &str, prefix: &[String], paths: &mut Vec<Vec<String>>) {
    loop {
        *rest = rest.trim_start();
        if rest.is_empty() || rest.starts_with('}') {
            *rest = rest.strip_prefix('}').unwrap_or(rest);
            return;
        }
        path_tree(rest, prefix, paths);
        // What may stand between a name and the comma: ` as other`, `*`.
        *rest = rest.trim_start_matches(|c| c != ',' && c != '}');
        *rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}
