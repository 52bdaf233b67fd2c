//! Many heaps over one set of nodes: leftist trees (Crane 1972; Knuth, volume 3, 5.2.3) with links to
//! parents, so that any node can be taken out. Inserting, taking the least and taking any are O(log n) at
//! worst, not amortised: no single step stalls the queue. A node is in one heap of a forest at a time, and
//! an empty heap takes no memory at all, so that every tenant and every session can have one.

use super::slab::{NONE, grow};

pub(super) struct Forest<K> {
    nodes: Vec<Node<K>>,
}

#[derive(Clone, Copy)]
pub(super) struct Node<K> {
    key: K,
    parent: u32,
    left: u32,
    right: u32,
    /// Of each child the steps to its nearest missing one, and one more; never smaller on the left. Kept here
    /// and not in the child, so that going up touches no node beside the way.
    left_rank: u8,
    right_rank: u8,
}

impl<K> Node<K> {
    fn alone(key: K) -> Node<K> {
        Node { key, parent: NONE, left: NONE, right: NONE, left_rank: 0, right_rank: 0 }
    }

    fn rank(&self) -> u8 {
        self.right_rank + 1
    }

    fn order(&mut self) {
        if self.left_rank < self.right_rank {
            std::mem::swap(&mut self.left, &mut self.right);
            std::mem::swap(&mut self.left_rank, &mut self.right_rank);
        }
    }
}

impl<K: Copy + Ord + Default> Forest<K> {
    pub fn new() -> Forest<K> {
        Forest { nodes: Vec::new() }
    }

    pub fn key(&self, at: u32) -> K {
        self.nodes[at as usize].key
    }

    /// Puts `at` into the heap of `root`; the heap's new root.
    #[must_use]
    pub fn push(&mut self, root: u32, at: u32, key: K) -> u32 {
        while self.nodes.len() <= at as usize {
            grow(&mut self.nodes);
            self.nodes.push(Node::alone(K::default()));
        }
        self.nodes[at as usize] = Node::alone(key);
        self.merge(root, at)
    }

    /// Takes `at` out of the heap of `root`; the heap's new root.
    #[must_use]
    pub fn remove(&mut self, root: u32, at: u32) -> u32 {
        let Node { parent, left, right, .. } = self.nodes[at as usize];
        for child in [left, right] {
            if child != NONE {
                self.nodes[child as usize].parent = NONE;
            }
        }
        let rest = self.merge(left, right);
        if parent == NONE {
            return rest;
        }
        if rest != NONE {
            self.nodes[rest as usize].parent = parent;
        }
        self.replace(parent, at, rest);
        root
    }

    /// Puts `child` (or nothing) where `old` was. Goes up while ranks change: they grow by one with each
    /// step, and none exceeds log2 of the nodes.
    fn replace(&mut self, parent: u32, old: u32, child: u32) {
        let (mut up, mut old, mut child, mut rank) = (parent, old, child, self.rank(child));
        while up != NONE {
            let node = &mut self.nodes[up as usize];
            let before = node.rank();
            if node.left == old {
                (node.left, node.left_rank) = (child, rank);
            } else {
                (node.right, node.right_rank) = (child, rank);
            }
            node.order();
            if node.rank() == before {
                return;
            }
            rank = node.rank();
            (old, child) = (up, up);
            up = node.parent;
        }
    }

    /// Gives `at` another key.
    #[must_use]
    pub fn rekey(&mut self, root: u32, at: u32, key: K) -> u32 {
        let root = self.remove(root, at);
        self.push(root, at, key)
    }

    /// Looks at up to `most` nodes of a heap whose key is allowed, parents first.
    pub fn visit(&self, root: u32, most: usize, is_near: impl Fn(K) -> bool, mut look: impl FnMut(u32, K)) {
        let mut ahead = [NONE; VISIT_DEPTH];
        let mut waiting = 0;
        let mut at = root;
        for _ in 0..most {
            while at == NONE || !is_near(self.key(at)) {
                if waiting == 0 {
                    return;
                }
                waiting -= 1;
                at = ahead[waiting];
            }
            let node = &self.nodes[at as usize];
            look(at, node.key);
            if node.right != NONE && waiting < VISIT_DEPTH {
                ahead[waiting] = node.right;
                waiting += 1;
            }
            at = node.left;
        }
    }

    fn merge(&mut self, one: u32, other: u32) -> u32 {
        let (mut one, mut other) = (one, other);
        let (mut root, mut last) = (NONE, NONE);
        while one != NONE && other != NONE {
            if self.key(other) < self.key(one) {
                std::mem::swap(&mut one, &mut other);
            }
            self.hang(one, last);
            if root == NONE {
                root = one;
            }
            last = one;
            one = self.nodes[one as usize].right;
        }
        let rest = if one == NONE { other } else { one };
        if last == NONE {
            return rest;
        }
        if rest == NONE {
            self.nodes[last as usize].right = NONE;
        } else {
            self.hang(rest, last);
        }
        let mut rank = self.rank(rest);
        while last != NONE {
            let node = &mut self.nodes[last as usize];
            node.right_rank = rank;
            node.order();
            rank = node.rank();
            last = node.parent;
        }
        root
    }

    fn hang(&mut self, child: u32, parent: u32) {
        self.nodes[child as usize].parent = parent;
        if parent != NONE {
            self.nodes[parent as usize].right = child;
        }
    }

    fn rank(&self, at: u32) -> u8 {
        if at == NONE { 0 } else { self.nodes[at as usize].rank() }
    }
}

/// More nodes put off while one is looked at than a look of a few dozen can meet.
const VISIT_DEPTH: usize = 64;
