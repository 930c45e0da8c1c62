//! The names of the topics of a request that may name them by their ids: access is granted to names.

use kafka_protocol::ResponseError;
use omnilog_auth::Operation;
use omnilog_broker::{Command, Name, Refusal, Reply, TopicInfo, TopicRef};
use omnilog_wire::ConnectionError;

use super::{Answer, Begun, Call, Exchange, Progress, topic_error, unexpected};

/// A topic's name, or why it has none that could be asked about.
pub(super) type Named = Result<Name, ResponseError>;

/// What a request does with the names of its topics.
type Go = Box<dyn FnOnce(&mut Call<'_>, Vec<Named>) -> Result<Begun, ConnectionError> + Send>;

/// A request that waits for names, and then goes on as another exchange.
struct Naming {
    names: Vec<Named>,
    /// Which of them were asked about.
    asked: Vec<usize>,
    go: Option<Go>,
    then: Option<Box<dyn Exchange>>,
}

impl Call<'_> {
    /// The same name, or why this may not be done with its topic.
    pub(super) fn permitted(&self, operation: Operation, name: Named) -> Named {
        name.and_then(|name| match self.may(operation, &name) {
            true => Ok(name),
            false => Err(ResponseError::TopicAuthorizationFailed),
        })
    }
}

/// Goes on with the names of topics, given by these or by ids; the broker is asked for those that nobody has been told
/// yet.
pub(super) fn with_names(
    call: &mut Call<'_>,
    topics: impl Iterator<Item = TopicRef>,
    go: impl FnOnce(&mut Call<'_>, Vec<Named>) -> Result<Begun, ConnectionError> + Send + 'static,
) -> Result<Begun, ConnectionError> {
    let mut asked = Vec::new();
    let mut refs = Vec::new();
    let names: Vec<Named> = topics
        .enumerate()
        .map(|(at, topic)| {
            let id = match topic {
                TopicRef::Name(name) => return Ok(name),
                TopicRef::Uuid(id) => id,
            };
            let known = call.context.topic_ids.name(call.context.namespace, id);
            if known.is_none() && id != 0 {
                asked.push(at);
                refs.push(topic);
            }
            known.ok_or(ResponseError::UnknownTopicId)
        })
        .collect();
    if asked.is_empty() {
        return go(call, names);
    }
    call.command(0, Command::DescribeTopics(Some(refs)));
    Ok(Begun::Waiting(Box::new(Naming {
        names,
        asked,
        go: Some(Box::new(go)),
        then: None,
    })))
}

impl Naming {
    fn heard(&mut self, call: &Call<'_>, answer: Answer) -> Result<(), ConnectionError> {
        let told: Vec<Result<TopicInfo, Refusal>> = match answer {
            Answer::Broker(Ok(Reply::Topics(topics))) => topics,
            Answer::Broker(Err(refusal)) => {
                let all = self.asked.iter();
                all.map(|_| Err(refusal.clone())).collect()
            }
            other => return Err(unexpected(&other)),
        };
        for (at, told) in self.asked.iter().zip(told) {
            let Some(name) = self.names.get_mut(*at) else {
                continue;
            };
            *name = match told {
                Ok(info) => {
                    call.context.learn(&info);
                    Ok(info.name)
                }
                Err(refusal) => Err(topic_error(&refusal, true)),
            };
        }
        Ok(())
    }
}

impl Exchange for Naming {
    fn hear(
        &mut self,
        call: &mut Call<'_>,
        part: usize,
        answer: Answer,
    ) -> Result<Progress, ConnectionError> {
        if let Some(then) = &mut self.then {
            return then.hear(call, part, answer);
        }
        self.heard(call, answer)?;
        let Some(go) = self.go.take() else {
            return Ok(Progress::Waiting);
        };
        match go(call, std::mem::take(&mut self.names))? {
            Begun::Done(reply) => Ok(Progress::Done(reply)),
            Begun::Waiting(then) => {
                self.then = Some(then);
                Ok(Progress::Waiting)
            }
        }
    }

    /// What it asks for has not been sent: later requests would be ahead of it.
    fn holds_back(&self) -> bool {
        self.then.is_none()
    }
}
