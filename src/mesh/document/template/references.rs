//! What `Ref`, `Fn::GetAtt` and `Fn::Sub` point to: parameters, pseudo parameters, and resources of the mesh, whose names
//! follow from the template alone.

use super::parameters::Given;
use super::{Declared, Expander, Refused, Work};
use crate::mesh::document::Position;
use crate::mesh::document::recognise::meant;
use crate::mesh::document::template::tree::{Node, Tree};
use crate::mesh::model::{Key, Kind};

/// Prefix of pseudo parameters (CloudFormation user guide, "Pseudo parameters").
pub(super) const PSEUDO: [&str; 8] = [
    "AWS::AccountId",
    "AWS::NoValue",
    "AWS::NotificationARNs",
    "AWS::Partition",
    "AWS::Region",
    "AWS::StackId",
    "AWS::StackName",
    "AWS::URLSuffix",
];

/// Mistakes that say what was meant. A name is compared with all others for that, and a template may have thousands of
/// both.
const MEANT_MAX: usize = 100;

impl<'t> Expander<'t> {
    /// `Ref`; `None` is `AWS::NoValue`.
    pub(super) fn reference(&mut self, name: &str, at: Position) -> Result<Option<Tree>, Refused> {
        match self.parameters.get(name) {
            Some(Given::Value(value)) => return Ok(Some(moved(value, at))),
            Some(Given::Wrong) => return Err(Refused),
            Some(Given::Missing) => {
                let message = format!("parameter {name} has no default: pass --parameter {name}=VALUE");
                return self.wrong(at, message);
            }
            None => {}
        }
        if name == "AWS::NoValue" {
            return Ok(None);
        }
        if let Some(value) = self.given(name) {
            return Ok(Some(Tree::text(at, value)));
        }
        if name.starts_with("AWS::") {
            return self.pseudo(name, at).map(|text| Some(Tree::text(at, text)));
        }
        match self.resources.get(name).copied() {
            Some(resource) if resource.kind.is_some() => {
                let key = self.present_key(resource, at)?;
                Ok(Some(Tree::text(at, self.arn(&key))))
            }
            Some(resource) => {
                let message = format!(
                    "{name} is {}, of which nothing is known here: pass --parameter {name}=VALUE",
                    resource.kind_text
                );
                self.wrong(at, message)
            }
            None => {
                let parameters = self.parameters.keys().map(String::as_str);
                let meant = self.like(name, parameters.chain(self.resources.keys().copied()));
                self.wrong(at, format!("no parameter or resource of this template is called {name}{meant}"))
            }
        }
    }

    /// `Fn::GetAtt`.
    pub(super) fn attribute(&mut self, id: &str, attribute: &str, at: Position) -> Result<String, Refused> {
        let name = format!("{id}.{attribute}");
        if let Some(value) = self.given(&name) {
            return Ok(value);
        }
        let Some(resource) = self.resources.get(id).copied() else {
            let meant = self.like(id, self.resources.keys().copied());
            return self.wrong(at, format!("no resource of this template is called {id}{meant}"));
        };
        let Some(kind) = resource.kind else {
            let message = format!(
                "{id} is {}, of which nothing is known here: pass --parameter {name}=VALUE",
                resource.kind_text
            );
            return self.wrong(at, message);
        };
        let key = self.present_key(resource, at)?;
        let names = [(Some(Kind::Mesh), &key.mesh), (kind.parent(), &key.parent), (Some(kind), &key.name)];
        let named =
            names.into_iter().find(|(kind, _)| kind.is_some_and(|kind| format!("{}Name", kind.title()) == attribute));
        match attribute {
            _ if named.is_some() => Ok(named.map(|(_, name)| name.clone()).unwrap_or_default()),
            "Arn" => Ok(self.arn(&key)),
            "MeshOwner" | "ResourceOwner" => Ok(self.account()),
            "Uid" => {
                let message = format!("a Uid is known only once there is one: pass --parameter {name}=VALUE");
                self.wrong(at, message)
            }
            _ => {
                let known: Vec<String> =
                    [Some(Kind::Mesh), kind.parent(), Some(kind).filter(|kind| *kind != Kind::Mesh)]
                        .into_iter()
                        .flatten()
                        .map(|kind| format!("{}Name", kind.title()))
                        .collect();
                let message = format!(
                    "{} has no attribute {attribute}; it has Arn, MeshOwner, ResourceOwner, Uid, {}",
                    resource.kind_text,
                    known.join(", ")
                );
                self.wrong(at, message)
            }
        }
    }

    /// What was meant by a name of this template, for the first mistakes: each asks all names.
    pub(super) fn like<'n>(&self, name: &str, names: impl Iterator<Item = &'n str>) -> String {
        if self.mistakes.len() < MEANT_MAX { meant(name, &names.collect::<Vec<_>>()) } else { String::new() }
    }

    /// `Fn::ImportValue`.
    pub(super) fn import(&mut self, name: &str, at: Position) -> Result<Tree, Refused> {
        match self.given(name) {
            Some(value) => Ok(Tree::text(at, value)),
            None => {
                let message =
                    format!("the export {name} of another stack is not known here: pass --parameter {name}=VALUE");
                self.wrong(at, message)
            }
        }
    }

    /// A value from the command line.
    fn given(&mut self, name: &str) -> Option<String> {
        let value = self.settings.parameters.get(name)?;
        self.known.insert(name.to_owned());
        Some(value.clone())
    }

    fn pseudo(&mut self, name: &str, at: Position) -> Result<String, Refused> {
        let region = self.settings.region.clone();
        Ok(match name {
            "AWS::Region" => region,
            "AWS::AccountId" => self.account(),
            "AWS::Partition" => self.partition().into(),
            "AWS::URLSuffix" if self.partition() == "aws-cn" => "amazonaws.com.cn".into(),
            "AWS::URLSuffix" => "amazonaws.com".into(),
            "AWS::StackName" => stack_name(self.file),
            "AWS::StackId" | "AWS::NotificationARNs" => {
                let message = format!("{name} is known only to CloudFormation: pass --parameter {name}=VALUE");
                return self.wrong(at, message);
            }
            _ => {
                let meant = meant(name, &PSEUDO);
                return self.wrong(at, format!("{name} is not a pseudo parameter{meant}"));
            }
        })
    }

    fn account(&mut self) -> String {
        self.given("AWS::AccountId").unwrap_or_else(|| self.settings.account.clone())
    }

    fn partition(&self) -> &'static str {
        let region = self.settings.parameters.get("AWS::Region").unwrap_or(&self.settings.region);
        match region {
            region if region.starts_with("cn-") => "aws-cn",
            region if region.starts_with("us-gov-") => "aws-us-gov",
            _ => "aws",
        }
    }

    fn arn(&mut self, key: &Key) -> String {
        let region = self.given("AWS::Region").unwrap_or_else(|| self.settings.region.clone());
        format!("arn:{}:appmesh:{region}:{}:{}", self.partition(), self.account(), key.path())
    }

    /// The key of a resource that someone refers to; one that its condition leaves out cannot be referred to.
    fn present_key(&mut self, resource: &'t Declared<'t>, at: Position) -> Result<Key, Refused> {
        if let Some(condition) = resource.condition
            && let Some(name) = condition.as_str()
            && !self.condition_named(name, condition.at)?
        {
            let message = format!(
                "{} is not made, since its condition {name} is false: put this into an Fn::If of that condition",
                resource.id
            );
            return self.wrong(at, message);
        }
        self.key_of(resource.id, at)
    }

    /// What a resource of the mesh is called. Names depend on names only, so that resources may refer to each other.
    pub(super) fn key_of(&mut self, id: &str, at: Position) -> Result<Key, Refused> {
        match self.keys.get(id) {
            Some(Work::Done(Some(key))) => return Ok(key.clone()),
            Some(Work::Done(None)) => return Err(Refused),
            Some(Work::UnderWay) => return self.wrong(at, format!("the name of {id} depends on itself")),
            None => {}
        }
        let Some((resource, kind)) = self.resources.get(id).and_then(|resource| Some((*resource, resource.kind?)))
        else {
            return self.wrong(at, format!("no resource of the mesh is called {id}"));
        };
        self.keys.insert(id.to_owned(), Work::UnderWay);
        let key = self.deeper(at, |expander| expander.names(resource, kind));
        self.keys.insert(id.to_owned(), Work::Done(key.as_ref().ok().cloned()));
        key
    }

    fn names(&mut self, resource: &'t Declared<'t>, kind: Kind) -> Result<Key, Refused> {
        let own = self.name(resource, kind, Some(resource.id));
        if kind == Kind::Mesh {
            return own.map(Key::mesh);
        }
        let mesh = self.name(resource, Kind::Mesh, None);
        let parent = kind.parent().map(|parent| self.name(resource, parent, None)).transpose();
        Ok(Key { mesh: mesh?, kind, parent: parent?.unwrap_or_default(), name: own? })
    }

    fn name(&mut self, resource: &'t Declared<'t>, kind: Kind, default: Option<&str>) -> Result<String, Refused> {
        let member = format!("{}Name", kind.title());
        let Some(tree) = resource.properties.and_then(|properties| properties.member(&member)) else {
            return match default {
                Some(id) => Ok(id.to_owned()),
                None => self.wrong(resource.at, format!("{member}: is required for a {}", resource.kind_text)),
            };
        };
        let Some(value) = self.value(tree)? else {
            return default
                .map_or_else(|| self.wrong(tree.at, format!("{member}: is required")), |id| Ok(id.to_owned()));
        };
        let Some(text) = value.as_text() else {
            return self.wrong(tree.at, format!("{member}: must be a string, not {}", value.type_name()));
        };
        if text.starts_with("arn:") && kind != Kind::VirtualService {
            let message = format!("{member}: is an ARN, which is what Ref yields; the name is !GetAtt X.{member}");
            return self.wrong(tree.at, message);
        }
        Ok(text)
    }
}

/// The same value at another place: what is wrong with it is wrong where it is used.
fn moved(tree: &Tree, at: Position) -> Tree {
    let node = match &tree.node {
        Node::List(items) => Node::List(items.iter().map(|item| moved(item, at)).collect()),
        node => node.clone(),
    };
    Tree { at, node }
}

/// A stack has the name of its file unless told otherwise: letters, numbers and hyphens, as CloudFormation has it.
fn stack_name(file: &str) -> String {
    let base = file.rsplit(['/', '\\']).next().unwrap_or(file);
    let stem = base.split_once('.').map_or(base, |(stem, _)| stem);
    stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect()
}
