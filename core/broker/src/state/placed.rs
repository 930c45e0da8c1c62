//! What is known of topics beside their logs: whose publishing made them, and which paths their records have.

use crate::api::*;
use crate::state::State;
use crate::state::changes::Named;
use crate::state::namespace::Namespace;
use crate::template::PathTemplate;
use std::sync::Arc;

impl State {
    /// A topic has this path template.
    pub(super) fn template_is(&mut self, topic: TopicId, template: Arc<PathTemplate>) {
        let Some(namespace) = self.topics.get(&topic).map(|topic| topic.namespace) else {
            return;
        };
        if let Some(names) = self.namespace_mut(namespace) {
            let of_head = names.templated.entry(template.head().cloned());
            of_head.or_default().insert(topic);
            names.touch_template(&template);
        }
        self.touch(Named::Placed(topic));
        self.templates.insert(topic, template);
    }
}

impl Namespace {
    /// A topic with a path template is gone.
    pub(super) fn untemplate(&mut self, topic: TopicId, template: &PathTemplate) {
        let head = template.head().cloned();
        if let Some(topics) = self.templated.get_mut(&head) {
            topics.remove(&topic);
            if topics.is_empty() {
                self.templated.remove(&head);
            }
        }
        self.touch_template(template);
    }

    /// Paths of this template are kept elsewhere from now on.
    fn touch_template(&mut self, template: &PathTemplate) {
        match template.head() {
            Some(head) => self.routes.touch(head),
            None => self.routes.touch_all(),
        }
    }

    /// A principal's publishing made a topic.
    pub(super) fn made_by(&mut self, principal: &Name, topic: TopicId) {
        if self.makers.insert(topic, principal.clone()).is_none() {
            *self.made.entry(principal.clone()).or_insert(0) += 1;
            self.auto_names += 1;
        }
    }

    /// A topic is gone: whoever made it may make another.
    pub(super) fn unmade(&mut self, topic: TopicId) {
        let Some(maker) = self.makers.remove(&topic) else {
            return;
        };
        self.auto_names -= 1;
        if let Some(made) = self.made.get_mut(&maker) {
            *made -= 1;
            if *made == 0 {
                self.made.remove(&maker);
            }
        }
    }
}
