//! `Conditions` of a template: truth from `Fn::Equals`, `Fn::And`, `Fn::Or`, `Fn::Not` and other conditions.

use super::{Expander, Refused, Work};
use crate::mesh::document::Position;
use crate::mesh::document::template::tree::{Node, Tree};
use serde_json::Value;

/// What a condition may be made of.
const FUNCTIONS: &str = "Fn::Equals, Fn::And, Fn::Or, Fn::Not, Condition";

impl Expander<'_> {
    /// Whether a condition of the template holds.
    pub(super) fn condition_named(&mut self, name: &str, at: Position) -> Result<bool, Refused> {
        match self.verdicts.get(name) {
            Some(Work::Done(Some(verdict))) => return Ok(*verdict),
            Some(Work::Done(None)) => return Err(Refused),
            Some(Work::UnderWay) => {
                return self.wrong(at, format!("condition {name} depends on itself"));
            }
            None => {}
        }
        let Some(tree) = self.conditions.and_then(|conditions| exact(conditions, name)) else {
            let names = self.conditions.and_then(Tree::members).unwrap_or_default().iter();
            let meant = self.like(name, names.map(|(name, _)| name.as_str()));
            return self.wrong(at, format!("no condition of this template is called {name}{meant}"));
        };
        self.verdicts.insert(name.to_owned(), Work::UnderWay);
        let verdict = self.deeper(tree.at, |expander| expander.condition(tree));
        self.verdicts.insert(name.to_owned(), Work::Done(verdict.as_ref().ok().copied()));
        verdict
    }

    fn condition(&mut self, tree: &Tree) -> Result<bool, Refused> {
        let Some([(function, argument)]) = tree.members() else {
            return self.wrong(tree.at, format!("a condition must be one of {FUNCTIONS}, not {}", tree.type_name()));
        };
        match (function.as_str(), &argument.node) {
            ("Condition", Node::Scalar(Value::String(name))) => self.condition_named(name, argument.at),
            ("Fn::Equals", Node::List(items)) if items.len() == 2 => {
                let mut sides = Vec::new();
                for item in items {
                    sides.push(self.value(item)?.map(|side| as_compared(&side)));
                }
                Ok(sides.first() == sides.last())
            }
            ("Fn::Not", Node::List(items)) if items.len() == 1 => {
                let mut all = self.all(items)?;
                Ok(all.pop() == Some(false))
            }
            // Two to ten of them (CloudFormation user guide); one or eleven do no harm here.
            ("Fn::And", Node::List(items)) if !items.is_empty() => Ok(self.all(items)?.into_iter().all(|one| one)),
            ("Fn::Or", Node::List(items)) if !items.is_empty() => Ok(self.all(items)?.into_iter().any(|one| one)),
            ("Condition" | "Fn::Equals" | "Fn::Not" | "Fn::And" | "Fn::Or", _) => {
                let wants = match function.as_str() {
                    "Condition" => "the name of a condition",
                    "Fn::Equals" => "a list of two values",
                    "Fn::Not" => "a list of one condition",
                    _ => "a list of conditions",
                };
                self.wrong(argument.at, format!("{function}: must be {wants}"))
            }
            (other, _) => self.wrong(tree.at, format!("{other}: a condition must be one of {FUNCTIONS}")),
        }
    }

    /// All of them are looked at, so that everything wrong is told.
    fn all(&mut self, items: &[Tree]) -> Result<Vec<bool>, Refused> {
        let verdicts: Vec<_> =
            items.iter().map(|item| self.deeper(item.at, |expander| expander.condition(item))).collect();
        verdicts.into_iter().collect()
    }
}

/// Names of the template itself are not free in the case of their letters.
pub(super) fn exact<'t>(section: &'t Tree, name: &str) -> Option<&'t Tree> {
    section.members()?.iter().find(|(member, _)| member == name).map(|(_, tree)| tree)
}

/// Numbers and truth values are compared as the text that they are in a template.
fn as_compared(tree: &Tree) -> Value {
    tree.as_text().map_or_else(|| tree.value(), Value::from)
}
