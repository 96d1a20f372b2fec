//! Terraform's files as blocks: every directory below `deploy/terraform` that has some is a module.

use crate::shell::root;
use hcl::Expression;
use hcl::expr::{ForExpr, ObjectKey, Operation, TraversalOperator};
use hcl::structure::{Block, Body, Structure};
use hcl::template::{Directive, Element, Template};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A directory of `.tf` files, which count as one.
pub(super) struct Module {
    pub(super) directory: PathBuf,
    pub(super) body: Body,
}

impl Module {
    pub(super) fn read(directory: &Path) -> Self {
        let mut body = Vec::new();
        for path in files(directory) {
            let text = std::fs::read_to_string(&path).unwrap();
            let parsed = hcl::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            body.extend(parsed.into_inner());
        }
        Self { directory: directory.to_owned(), body: Body::from_iter(body) }
    }

    /// One of `deploy/terraform/modules`.
    pub(super) fn named(name: &str) -> Self {
        Self::read(&root().join("deploy/terraform/modules").join(name))
    }

    /// Where it is, for messages.
    pub(super) fn name(&self) -> String {
        self.directory.strip_prefix(root().join("deploy/terraform")).unwrap().display().to_string()
    }

    /// Its blocks of a kind.
    pub(super) fn blocks<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Block> {
        self.body.blocks().filter(move |block| block.identifier() == kind)
    }

    /// The block of a kind with these labels.
    pub(super) fn block(&self, kind: &str, labels: &[&str]) -> Option<&Block> {
        self.body.blocks().find(|block| block.identifier() == kind && labels_of(block) == labels)
    }

    /// What is under `locals`.
    pub(super) fn locals(&self) -> BTreeMap<&str, &Expression> {
        let attributes = self.blocks("locals").flat_map(|block| block.body().attributes());
        attributes.map(|attribute| (attribute.key(), attribute.expr())).collect()
    }
}

/// The `.tf` files of a directory, in order.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "tf"));
    files.sort();
    files
}

/// All modules and examples.
pub(super) fn modules() -> Vec<Module> {
    let parents = ["modules", "examples"].map(|parent| root().join("deploy/terraform").join(parent));
    let mut directories: Vec<PathBuf> = parents
        .iter()
        .flat_map(|parent| std::fs::read_dir(parent).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect();
    directories.sort();
    directories.iter().map(|directory| Module::read(directory)).collect()
}

pub(super) fn labels_of(block: &Block) -> Vec<&str> {
    block.labels().iter().map(hcl::structure::BlockLabel::as_str).collect()
}

/// An attribute of a block.
pub(super) fn attribute<'a>(body: &'a Body, key: &str) -> Option<&'a Expression> {
    body.attributes().find(|attribute| attribute.key() == key).map(hcl::Attribute::expr)
}

/// A list of plain texts.
pub(super) fn texts(expression: &Expression) -> Vec<String> {
    let Expression::Array(items) = expression else { panic!("not a list: {expression:?}") };
    items.iter().map(|item| text(item).to_owned()).collect()
}

/// A plain text.
pub(super) fn text(expression: &Expression) -> &str {
    match expression {
        Expression::String(text) => text,
        other => panic!("not a plain text: {other:?}"),
    }
}

/// A key of an object, where it is a plain one.
pub(super) fn key_text(key: &ObjectKey) -> Option<&str> {
    match key {
        ObjectKey::Identifier(name) => Some(name.as_str()),
        ObjectKey::Expression(Expression::String(text)) => Some(text),
        _ => None,
    }
}

/// The arguments of a call of this function.
pub(super) fn arguments_of<'a>(expression: &'a Expression, function: &str) -> Option<&'a [Expression]> {
    match expression {
        Expression::FuncCall(call) if call.name.name.as_str() == function => Some(&call.args),
        _ => None,
    }
}

/// Members of the type `object({…})`; those that may be left out are `optional(…)`.
pub(super) fn object_type(of: &Expression) -> Option<BTreeMap<&str, &Expression>> {
    let Some([Expression::Object(members)]) = arguments_of(of, "object") else { return None };
    Some(members.iter().filter_map(|(key, of)| Some((key_text(key)?, of))).collect())
}

/// What an expression is made of, one level down; the scopes of `for` are not opened: `for_expr` sees to them.
pub(super) fn parts(expression: &Expression) -> Vec<&Expression> {
    match expression {
        Expression::Array(items) => items.iter().collect(),
        Expression::Object(object) => {
            let keys = object.keys().filter_map(|key| match key {
                ObjectKey::Expression(expression) => Some(expression),
                _ => None,
            });
            keys.chain(object.values()).collect()
        }
        Expression::FuncCall(call) => call.args.iter().collect(),
        Expression::Parenthesis(inner) => vec![inner],
        Expression::Conditional(choice) => vec![&choice.cond_expr, &choice.true_expr, &choice.false_expr],
        Expression::Operation(operation) => match operation.as_ref() {
            Operation::Unary(unary) => vec![&unary.expr],
            Operation::Binary(binary) => vec![&binary.lhs_expr, &binary.rhs_expr],
        },
        Expression::Traversal(traversal) => traversal
            .operators
            .iter()
            .filter_map(|operator| match operator {
                TraversalOperator::Index(index) => Some(index),
                _ => None,
            })
            .collect(),
        _ => vec![],
    }
}

/// The expressions inside of a text with `${…}`.
pub(super) fn interpolations(expression: &Expression) -> Vec<Expression> {
    let Expression::TemplateExpr(template) = expression else { return vec![] };
    let template = Template::from_expr(template).unwrap();
    let of = |element: &Element| match element {
        Element::Literal(_) => None,
        Element::Interpolation(interpolation) => Some(interpolation.expr.clone()),
        Element::Directive(directive) => match directive.as_ref() {
            Directive::If(_) | Directive::For(_) => panic!("a directive in a text, which these checks do not follow"),
        },
    };
    template.elements().iter().filter_map(of).collect()
}

/// What a `for` computes for each element.
pub(super) fn for_parts(each: &ForExpr) -> Vec<&Expression> {
    [each.key_expr.as_ref(), Some(&each.value_expr), each.cond_expr.as_ref()].into_iter().flatten().collect()
}

/// Attributes and blocks of a body, with `dynamic` blocks as what they make.
pub(super) fn made(body: &Body) -> Vec<(&str, Option<&Body>)> {
    let mut made = Vec::new();
    for structure in body {
        match structure {
            Structure::Attribute(attribute) => made.push((attribute.key(), None)),
            Structure::Block(block) if block.identifier() == "dynamic" => {
                let content = block.body().blocks().find(|block| block.identifier() == "content");
                made.push((labels_of(block)[0], Some(content.expect("dynamic has content").body())));
            }
            Structure::Block(block) => made.push((block.identifier(), Some(block.body()))),
        }
    }
    made
}
