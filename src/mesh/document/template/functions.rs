//! Intrinsic functions: values to values.

use super::conditions::exact;
use super::{Expander, Refused};
use crate::mesh::document::Position;
use crate::mesh::document::recognise::meant;
use crate::mesh::document::template::tree::{Node, Tree};
use std::collections::BTreeMap;

/// Deepest following of references and nesting, together. A document is nested 64 deep at most, and names that are made of
/// names of names go a few further; the stack holds some ten times this.
const DEPTH_MAX: usize = 160;

/// Most bytes that a template may be worked out to: as many as a file may have (`yaml::FILE_MAX`).
const MADE_MAX: usize = 16 * 1024 * 1024;

/// Functions of values.
const KNOWN: [&str; 8] =
    ["Fn::FindInMap", "Fn::GetAtt", "Fn::If", "Fn::ImportValue", "Fn::Join", "Fn::Select", "Fn::Split", "Fn::Sub"];

impl Expander<'_> {
    /// A value with everything in it worked out; `None` where that is `AWS::NoValue`.
    pub(super) fn value(&mut self, tree: &Tree) -> Result<Option<Tree>, Refused> {
        self.deeper(tree.at, |expander| match &tree.node {
            Node::Scalar(_) => {
                expander.spend(tree, tree.at)?;
                Ok(Some(tree.clone()))
            }
            Node::List(items) => {
                // All of them, so that everything wrong is told.
                let items: Vec<_> = items.iter().map(|item| expander.value(item)).collect();
                let items: Result<Vec<_>, Refused> = items.into_iter().collect();
                Ok(Some(Tree { at: tree.at, node: Node::List(items?.into_iter().flatten().collect()) }))
            }
            Node::Map(members) => {
                if let Some((name, argument)) =
                    members.iter().find(|(name, _)| name == "Ref" || name.starts_with("Fn::"))
                {
                    if members.len() > 1 {
                        return expander.wrong(tree.at, format!("{name}: must stand alone in its object"));
                    }
                    return expander.function(name, argument, tree.at);
                }
                let values: Vec<_> = members.iter().map(|(name, value)| (name, expander.value(value))).collect();
                let mut made = Vec::new();
                for (name, value) in values {
                    made.extend(value?.map(|value| (name.clone(), value)));
                }
                Ok(Some(Tree { at: tree.at, node: Node::Map(made) }))
            }
        })
    }

    /// Does something one level deeper.
    pub(super) fn deeper<T>(
        &mut self,
        at: Position,
        work: impl FnOnce(&mut Self) -> Result<T, Refused>,
    ) -> Result<T, Refused> {
        if self.depth >= DEPTH_MAX {
            return self.wrong(at, format!("refers to something that refers to something, more than {DEPTH_MAX} deep"));
        }
        self.depth += 1;
        let done = work(self);
        self.depth -= 1;
        done
    }

    /// Counts what is made.
    fn spend(&mut self, tree: &Tree, at: Position) -> Result<(), Refused> {
        // A scalar that is no text takes about a word.
        let bytes = tree.as_str().map_or(8, str::len).saturating_add(1);
        self.made = self.made.saturating_add(bytes);
        if self.made <= MADE_MAX {
            return Ok(());
        }
        self.wrong(at, format!("the template comes to more than {MADE_MAX} bytes once it is worked out"))
    }

    fn made(&mut self, tree: Tree) -> Result<Option<Tree>, Refused> {
        self.spend(&tree, tree.at)?;
        Ok(Some(tree))
    }

    fn function(&mut self, name: &str, argument: &Tree, at: Position) -> Result<Option<Tree>, Refused> {
        match name {
            "Ref" => match argument.as_str() {
                Some(target) => match self.reference(target, argument.at)? {
                    Some(tree) => self.made(tree),
                    None => Ok(None),
                },
                None => self.wrong(argument.at, "Ref: must be the name of a parameter or resource"),
            },
            "Fn::GetAtt" => self.get_att(argument),
            "Fn::Sub" => self.sub(argument),
            "Fn::Join" => self.join(argument, at),
            "Fn::Select" => self.select(argument, at),
            "Fn::Split" => self.split(argument, at),
            "Fn::If" => match argument.items() {
                Some([condition, then, otherwise]) => {
                    let Some(name) = condition.as_str() else {
                        return self.wrong(condition.at, "Fn::If: begins with the name of a condition");
                    };
                    let chosen = if self.condition_named(name, condition.at)? { then } else { otherwise };
                    self.value(chosen)
                }
                _ => self.wrong(argument.at, "Fn::If: must be a list of a condition's name and two values"),
            },
            "Fn::FindInMap" => self.find_in_map(argument),
            "Fn::ImportValue" => {
                let export = self.text(argument, "Fn::ImportValue")?;
                let value = self.import(&export, argument.at)?;
                self.made(value)
            }
            "Fn::Equals" | "Fn::And" | "Fn::Or" | "Fn::Not" => {
                self.wrong(at, format!("{name}: stands only in Conditions; a value chooses by Fn::If"))
            }
            _ => {
                let meant = meant(name, &KNOWN);
                let known = KNOWN.join(", ");
                let message = format!(
                    "{name}: is not a function that is worked out here{meant}; Ref and {known} are. Put its value there, \
                     or a parameter"
                );
                self.wrong(at, message)
            }
        }
    }

    /// A value that has to be text.
    fn text(&mut self, tree: &Tree, what: &str) -> Result<String, Refused> {
        match self.value(tree)? {
            Some(value) => match value.as_text() {
                Some(text) => Ok(text),
                None => self.wrong(tree.at, format!("{what}: must be a string here, not {}", value.type_name())),
            },
            None => self.wrong(tree.at, format!("{what}: must be a string here, not AWS::NoValue")),
        }
    }

    /// A value that has to be a list.
    fn list(&mut self, tree: &Tree, what: &str) -> Result<Vec<Tree>, Refused> {
        match self.value(tree)? {
            Some(Tree { node: Node::List(items), .. }) => Ok(items),
            Some(other) => self.wrong(tree.at, format!("{what}: must be a list here, not {}", other.type_name())),
            None => self.wrong(tree.at, format!("{what}: must be a list here, not AWS::NoValue")),
        }
    }

    fn get_att(&mut self, argument: &Tree) -> Result<Option<Tree>, Refused> {
        let at = argument.at;
        let (id, attribute) = match (argument.as_str(), argument.items()) {
            (Some(text), _) => match text.split_once('.') {
                Some((id, attribute)) => (id.to_owned(), attribute.to_owned()),
                None => return self.wrong(at, "Fn::GetAtt: must be LOGICAL_ID.ATTRIBUTE"),
            },
            (None, Some([id, attribute])) if id.as_str().is_some() => {
                (id.as_str().unwrap_or_default().to_owned(), self.text(attribute, "Fn::GetAtt")?)
            }
            _ => return self.wrong(at, "Fn::GetAtt: must be LOGICAL_ID.ATTRIBUTE, or a list of the two"),
        };
        let value = self.attribute(&id, &attribute, at)?;
        self.made(Tree::text(at, value))
    }

    fn join(&mut self, argument: &Tree, at: Position) -> Result<Option<Tree>, Refused> {
        let Some([delimiter, list]) = argument.items() else {
            return self.wrong(argument.at, "Fn::Join: must be a list of a delimiter and a list");
        };
        let delimiter = self.text(delimiter, "Fn::Join")?;
        let mut parts = Vec::new();
        for item in self.list(list, "Fn::Join")? {
            match item.as_text() {
                Some(text) => parts.push(text),
                None => return self.wrong(item.at, format!("Fn::Join: joins strings, not {}", item.type_name())),
            }
        }
        // Before it is made: a long delimiter between many parts is more than their sum.
        let bytes = parts.len().saturating_mul(delimiter.len());
        if bytes > MADE_MAX {
            return self.wrong(at, format!("Fn::Join: comes to more than {MADE_MAX} bytes"));
        }
        self.made(Tree::text(at, parts.join(&delimiter)))
    }

    fn select(&mut self, argument: &Tree, at: Position) -> Result<Option<Tree>, Refused> {
        let Some([index, list]) = argument.items() else {
            return self.wrong(argument.at, "Fn::Select: must be a list of an index and a list");
        };
        let text = self.text(index, "Fn::Select")?;
        let items = self.list(list, "Fn::Select")?;
        let chosen = text.trim().parse::<usize>().ok().and_then(|index| items.get(index).cloned());
        match chosen {
            Some(item) => Ok(Some(item)),
            None => {
                let count = items.len();
                self.wrong(at, format!("Fn::Select: {text} is not the index of one of {count} items, counted from 0"))
            }
        }
    }

    fn split(&mut self, argument: &Tree, at: Position) -> Result<Option<Tree>, Refused> {
        let Some([delimiter, source]) = argument.items() else {
            return self.wrong(argument.at, "Fn::Split: must be a list of a delimiter and a string");
        };
        let (delimiter, source) = (self.text(delimiter, "Fn::Split")?, self.text(source, "Fn::Split")?);
        if delimiter.is_empty() {
            return self.wrong(at, "Fn::Split: the delimiter must not be empty");
        }
        let parts = source.split(&*delimiter).map(|part| Tree::text(at, part)).collect();
        Ok(Some(Tree { at, node: Node::List(parts) }))
    }

    fn find_in_map(&mut self, argument: &Tree) -> Result<Option<Tree>, Refused> {
        let Some([map, first, second, rest @ ..]) = argument.items() else {
            return self.wrong(argument.at, "Fn::FindInMap: must be a list of a map's name and two keys");
        };
        let names = [map, first, second].map(|tree| self.text(tree, "Fn::FindInMap"));
        let [map, first, second] = names;
        let (map, first, second) = (map?, first?, second?);
        let mut found = self.mappings;
        for name in [&map, &first, &second] {
            found = found.and_then(|section| exact(section, name));
        }
        match (found, rest.iter().find_map(|tree| tree.member("DefaultValue"))) {
            // As it stands there: a mapping holds no functions, and one that did could go round in circles.
            (Some(tree), _) => self.literal(tree, argument.at).map(Some),
            (None, Some(default)) => self.value(default),
            (None, None) => {
                let message = format!("Fn::FindInMap: there is no {map}, {first}, {second} in Mappings");
                self.wrong(argument.at, message)
            }
        }
    }

    /// A value of a mapping: text, or a list of it.
    fn literal(&mut self, tree: &Tree, at: Position) -> Result<Tree, Refused> {
        let found = Tree { at, node: tree.node.clone() };
        let scalars = found.items().unwrap_or(std::slice::from_ref(&found));
        for scalar in scalars {
            if !matches!(scalar.node, Node::Scalar(_)) {
                return self.wrong(
                    tree.at,
                    format!("a value in Mappings must be a string or a list of them, not {}", scalar.type_name()),
                );
            }
            self.spend(scalar, at)?;
        }
        Ok(found)
    }

    /// Both forms: the text alone, or a list of it and an object of its own variables.
    fn sub(&mut self, argument: &Tree) -> Result<Option<Tree>, Refused> {
        let (template, variables) = match (argument.as_str(), argument.items()) {
            (Some(text), _) => (text, None),
            (None, Some([text, variables])) if text.as_str().is_some() && variables.members().is_some() => {
                (text.as_str().unwrap_or_default(), variables.members())
            }
            _ => return self.wrong(argument.at, "Fn::Sub: must be a string, or a list of a string and an object"),
        };
        let mut own = BTreeMap::new();
        for (name, value) in variables.unwrap_or_default() {
            own.insert(name.as_str(), self.text(value, "Fn::Sub")?);
        }
        let mut made = String::new();
        let mut rest = template;
        while let Some((before, after)) = rest.split_once("${") {
            made.push_str(before);
            let Some((name, after)) = after.split_once('}') else {
                return self.wrong(argument.at, "Fn::Sub: ${ is not closed; a literal one is written ${!}");
            };
            rest = after;
            match (name.strip_prefix('!'), own.get(name)) {
                (Some(literal), _) => made.push_str(&format!("${{{literal}}}")),
                (None, Some(value)) => made.push_str(value),
                (None, None) => made.push_str(&self.placeholder(name, argument.at)?),
            }
            if made.len() > MADE_MAX {
                return self.wrong(argument.at, format!("Fn::Sub: comes to more than {MADE_MAX} bytes"));
            }
        }
        made.push_str(rest);
        self.made(Tree::text(argument.at, made))
    }

    fn placeholder(&mut self, name: &str, at: Position) -> Result<String, Refused> {
        if let Some((id, attribute)) = name.split_once('.') {
            return self.attribute(id, attribute, at);
        }
        match self.reference(name, at)? {
            None => Ok(String::new()),
            Some(value) => match value.as_text() {
                Some(text) => Ok(text),
                None => self.wrong(at, format!("Fn::Sub: ${{{name}}} is {}, not a string", value.type_name())),
            },
        }
    }
}
