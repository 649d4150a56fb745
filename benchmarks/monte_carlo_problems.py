"""Small problems whose truth is known exactly, and their training, for thousands of replicates at once.

Legend: R replicates, m different pictures, C classes, C_t of task t, P_t parameters of task t's network, phi all
parameters of an assembled network: the shared encoder, then each task's own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from forktail.theory.refined import CoupledMoments

PRIOR = np.array([0.45, 0.3, 0.15, 0.1])
TASKS = (np.array([0, 1]), np.array([2, 3]))


@dataclass(frozen=True)
class Problem(ABC):
    """Two tasks of which everything is known: optimum, score covariance, curvature, and risk of any parameters.

    ``data`` is either what R replicates drew or the population itself; both go into the same gradient.
    """

    name: str
    n: int  # images of one replicate
    units: tuple[int, ...]
    optimum: tuple[np.ndarray, np.ndarray]  # (P_t,)
    origin: tuple[np.ndarray, np.ndarray]  # (P_t,) initial weights, to which damping pulls

    @abstractmethod
    def draw(self, rng, replicates): ...

    @abstractmethod
    def population(self, prior): ...

    @abstractmethod
    def gradient(self, data, task, theta): ...

    @abstractmethod
    def risk(self, theta, prior): ...

    @abstractmethod
    def scores(self): ...

    def slope(self, theta, prior):
        """Gradient of the risk in both tasks' parameters, stacked; (R, P_A + P_B)."""
        data = self.population(prior)
        return np.concatenate([self.gradient(data, task, theta[task]) for task in (0, 1)], axis=1)

    def excess(self, theta, prior):
        """Risk above that of each task's best parameters; (R,)."""
        return self.risk(theta, prior) - self.risk([optimum[None] for optimum in self.optimum], prior)

    def hessian(self, prior):
        """Central differences of the exact gradient at the optimum, right to about 1e-8; (P_A + P_B, P_A + P_B)."""
        best = np.concatenate(self.optimum)
        step = 1e-4 * np.eye(len(best))
        ahead, behind = (
            self.slope(np.split(best + sign * step, [len(self.optimum[0])], axis=1), prior) for sign in (1, -1)
        )
        found = (ahead - behind) / 2e-4
        return (found + found.T) / 2

    @cached_property
    def curvature(self):
        first, whole = len(self.optimum[0]), self.hessian("training")
        return [whole[:first, :first], whole[first:, first:]]

    def moments(self, prior="training", damping=0.0):
        """The truth, as the criterion reads it; positions are those of the damped optima without noise."""
        solution = self.alone(self.population("training"), np.concatenate(self.optimum)[None], damping)
        position = [theta[0] - origin for theta, origin in zip(solution, self.origin, strict=True)]
        risk = None if prior == "training" else self.hessian(prior)
        return CoupledMoments(self.units, self.curvature, self.scores(), position, risk)

    # Training, all replicates at once.

    def places(self, encoder):
        """Where each task's parameters stand in phi, when the first ``encoder`` of them are shared."""
        first, second = (len(x) for x in self.optimum)
        own = [np.arange(encoder, first), np.arange(first, first + second - encoder)]
        return [np.concatenate([np.arange(encoder), rest]) for rest in own]

    def minimise(self, data, phi, encoder, weights=(0.5, 0.5), damping=0.0, decoders_only=False):
        """Weighted sum of the (damped) losses, by Newton's method with the population's Hessian, to convergence."""
        places = self.places(encoder)
        hessian = np.zeros((phi.shape[1],) * 2)
        for weight, place, H in zip(weights, places, self.curvature, strict=True):
            hessian[np.ix_(place, place)] += weight * (H + damping * np.eye(len(H)))
        free = np.arange(encoder if decoders_only else 0, phi.shape[1])
        inverse = np.linalg.inv(hessian[np.ix_(free, free)])
        phi = phi.copy()
        for _ in range(100):
            slope = np.zeros_like(phi)
            for task, (weight, place) in enumerate(zip(weights, places, strict=True)):
                theta = phi[:, place]
                slope[:, place] += weight * (self.gradient(data, task, theta) + damping * (theta - self.origin[task]))
            move = slope[:, free] @ inverse
            phi[:, free] -= move
            if np.abs(move).max() < 1e-6 / np.sqrt(self.n):  # a millionth of what sampling does
                return phi
        raise RuntimeError(f"{self.name}: training has not converged, last step {np.abs(move).max():.1e}")

    def alone(self, data, start, damping=0.0):
        """Stage 1, both tasks: sharing nothing, the weights do not matter."""
        phi = self.minimise(data, start, 0, damping=damping)
        return [phi[:, place] for place in self.places(0)]

    def shared(self, data, alone, encoder, weights, damping=0.0):
        """Stage 2: the encoder that both tasks share; (R, encoder)."""
        start = weights[0] * alone[0][:, :encoder] + weights[1] * alone[1][:, :encoder]
        return self.minimise(data, self.assembled(start, alone), encoder, weights, damping)[:, :encoder]

    @staticmethod
    def assembled(encoder, alone):
        """Stage 3: the shared encoder and the decoders of Stage 1, as phi."""
        size = encoder.shape[1]
        return np.concatenate([encoder, alone[0][:, size:], alone[1][:, size:]], axis=1)


@dataclass(frozen=True)
class Gaussian(Problem):
    """Linear regression with normal inputs x_t and normal noise, loss 1/2 (y_t - x_t' theta_t)^2.

    H_t = Cov(x_t), S_tu = Cov(noise_t, noise_u) Cov(x_t, x_u). ``prior`` "shifted" is another covariance of the inputs.
    """

    inputs: np.ndarray = field(kw_only=True)  # (P_A + P_B, P_A + P_B), of both tasks' inputs
    shifted: np.ndarray = field(kw_only=True)
    noise: np.ndarray = field(kw_only=True)  # (2, 2)

    @property
    def blocks(self):
        first = len(self.optimum[0])
        return slice(0, first), slice(first, None)

    def draw(self, rng, replicates):
        """X'X and X'noise of n images, by Bartlett's decomposition of the Wishart distribution, divided by n."""
        size = len(self.inputs)
        root = np.tril(rng.standard_normal((replicates, size, size)), -1)
        root[:, np.arange(size), np.arange(size)] = np.sqrt(rng.chisquare(self.n - np.arange(size), (replicates, size)))
        root = np.linalg.cholesky(self.inputs) @ root
        noise = root @ rng.standard_normal((replicates, size, 2)) @ np.linalg.cholesky(self.noise).T
        return root @ root.swapaxes(1, 2) / self.n, noise / self.n

    def population(self, prior):
        inputs = {"training": self.inputs, "shifted": self.shifted}[prior]
        return inputs, np.zeros((len(inputs), 2))

    def gradient(self, data, task, theta):
        block = self.blocks[task]
        away = theta - self.optimum[task]
        return np.einsum("...pq,...q->...p", data[0][..., block, block], away) - data[1][..., block, task]

    def risk(self, theta, prior):
        inputs, _ = self.population(prior)
        away = [x - optimum for x, optimum in zip(theta, self.optimum, strict=True)]
        parts = zip(away, self.blocks, strict=True)
        return sum(np.einsum("rp,pq,rq->r", x, inputs[block, block], x) / 2 for x, block in parts)

    @property
    def own_group_n(self):
        return [self.n / 2] * 2

    def scores(self):
        sizes = [len(x) for x in self.optimum]
        return self.inputs * np.repeat(np.repeat(self.noise, sizes, axis=0), sizes, axis=1)


@dataclass(frozen=True)
class Labelled(Problem):
    """Exclusive labels of finitely many pictures, so that expectations are finite sums, exactly.

    Logits are a network's output plus a known offset per picture and class, which puts the optimum where it is wanted.
    Data are a pair: the mass of every picture, and of every (picture, class).
    """

    share: np.ndarray = field(kw_only=True)  # (m,)
    labels: np.ndarray = field(kw_only=True)  # (m, C), p(y | x)
    networks: tuple = field(kw_only=True)  # of each task: outputs(theta), pulled_back(theta, slopes)
    offsets: tuple = field(kw_only=True)  # (m, C_t)

    def draw(self, rng, replicates):
        cells = (self.share[:, None] * self.labels).ravel()
        counts = rng.multinomial(self.n, cells / cells.sum(), size=replicates) / self.n
        counts = counts.reshape(replicates, *self.labels.shape)
        return counts.sum(axis=2), counts

    def joint(self, prior):
        """(m, C) mass of every picture with every label in the evaluated risk."""
        joint = self.share[:, None] * self.labels
        ratio = 1 / (len(PRIOR) * (self.share @ self.labels))  # uniform class prior over the training prior
        if prior == "training":
            return joint
        if prior == "shifted":  # pictures come as under a uniform class prior, labels given the picture as in training
            return (self.labels @ ratio)[:, None] * joint
        return ratio * joint  # images weighted by their own label: a uniform class prior, p(y | x) changes too

    def population(self, prior):
        joint = self.joint(prior)
        return joint.sum(axis=1), joint

    def logits(self, task, theta):
        return self.offsets[task] + self.networks[task].outputs(theta)

    def gradient(self, data, task, theta):
        mass, joint = data
        slopes = mass[..., None] * sigmoid(self.logits(task, theta)) - joint[..., TASKS[task]]
        return self.networks[task].pulled_back(theta, slopes)

    def slope(self, theta, prior):
        if prior != "posterior":
            return super().slope(theta, prior)
        outputs = [self.logits(task, x) for task, x in enumerate(theta)]
        joint, wrong = self.joint(prior), softmax(self.log_posterior(outputs))
        slopes = joint.sum(axis=1)[:, None] * wrong - joint
        return np.concatenate(
            [
                self.networks[task].pulled_back(x, slopes[..., TASKS[task]] * (1 - sigmoid(z)))
                for task, (x, z) in enumerate(zip(theta, outputs, strict=True))
            ],
            axis=1,
        )

    def risk(self, theta, prior):
        outputs = [self.logits(task, x) for task, x in enumerate(theta)]
        joint = self.joint(prior)
        if prior == "posterior":
            scores = self.log_posterior(outputs)
            peak = scores.max(axis=2, keepdims=True)
            scores = scores - peak - np.log(np.exp(scores - peak).sum(axis=2, keepdims=True))
            return -np.einsum("rmc,mc->r", scores, joint)
        return sum(
            np.einsum("rmc,m->r", np.logaddexp(0, z), joint.sum(axis=1)) - np.einsum("rmc,mc->r", z, joint[:, classes])
            for z, classes in zip(outputs, TASKS, strict=True)
        )

    def log_posterior(self, outputs):
        """docs/theory.md, eq. 17, under a uniform prior: log sigmoid(z_c + logit pi_c) - log pi_c."""
        z = np.concatenate(outputs, axis=2)
        return -np.logaddexp(0, -z) - np.log(self.share @ self.labels)

    @property
    def own_group_n(self):
        return [self.n * (self.share @ self.labels)[classes].sum() for classes in TASKS]

    def scores(self):
        """Every picture with every label, its gradient in both tasks, weighted with its probability."""
        rows = []
        pictures, num_classes = self.labels.shape
        for task, classes in enumerate(TASKS):
            truth = np.tile(np.eye(num_classes)[:, classes], (pictures, 1))  # (m C, C_t)
            slopes = np.zeros((pictures * num_classes, pictures, len(classes)))
            which = np.repeat(np.arange(pictures), num_classes)
            output = sigmoid(self.logits(task, self.optimum[task][None]))[0]
            slopes[np.arange(len(which)), which] = output[which] - truth
            theta = np.broadcast_to(self.optimum[task], (len(which), len(self.optimum[task])))
            rows.append(self.networks[task].pulled_back(theta, slopes))
        gradients = np.concatenate(rows, axis=1)
        probability = (self.share[:, None] * self.labels).ravel()
        mean = probability @ gradients
        return (gradients * probability[:, None]).T @ gradients - np.outer(mean, mean)


@dataclass(frozen=True)
class LinearNetwork:
    """z_c(x) = features_c(x)' theta."""

    features: np.ndarray  # (m, C_t, P_t)

    def outputs(self, theta):
        return (theta @ self.features.reshape(-1, theta.shape[1]).T).reshape(len(theta), *self.features.shape[:2])

    def pulled_back(self, theta, slopes):
        return slopes.reshape(len(theta), -1) @ self.features.reshape(-1, theta.shape[1])


@dataclass(frozen=True)
class TwoLayers:
    """Two layers of tanh, each a unit, and a linear readout; every layer has a constant among its inputs."""

    inputs: np.ndarray  # (m, q)
    widths: tuple[int, int]
    num_outputs: int

    @property
    def shapes(self):
        first, second = self.widths
        return (first, self.inputs.shape[1] + 1), (second, first + 1), (self.num_outputs, second + 1)

    def _passed(self, theta):
        """The weights, the input of each layer with its constant, and the outputs; replicates stand last, in memory."""
        cuts = np.cumsum([rows * columns for rows, columns in self.shapes])[:-1]
        columns = np.split(np.ascontiguousarray(theta.T), cuts)
        weights = [x.reshape(*shape, -1) for x, shape in zip(columns, self.shapes, strict=True)]
        current, seen = np.broadcast_to(self.inputs[..., None], (*self.inputs.shape, len(theta))), []
        for number, weight in enumerate(weights):
            seen.append(np.concatenate([current, np.ones((len(current), 1, len(theta)))], axis=1))
            current = np.einsum("ijr,mjr->mir", weight, seen[-1])
            current = np.tanh(current) if number < 2 else current
        return weights, seen, current

    def outputs(self, theta):
        return self._passed(theta)[2].transpose(2, 0, 1)

    def pulled_back(self, theta, slopes):
        weights, seen, _ = self._passed(theta)
        slopes = np.ascontiguousarray(np.broadcast_to(slopes, (len(theta), *slopes.shape[-2:])).transpose(1, 2, 0))
        gradients = []
        for number in (2, 1, 0):
            gradients.insert(0, np.einsum("mir,mjr->ijr", slopes, seen[number]).reshape(-1, len(theta)))
            if number:
                inside = seen[number][:, :-1]
                slopes = np.einsum("ijr,mir->mjr", weights[number][:, :-1], slopes) * (1 - inside**2)
        return np.concatenate(gradients).T


def sigmoid(z):
    return 0.5 * (1 + np.tanh(z / 2))


def paper_case(n=64_000):
    """What `sandwich` supposes: no coupling, S = H, tasks with independent noise. Nothing else is special."""
    rng = np.random.default_rng(1)
    fishers = [np.exp(rng.normal(size=8)) for _ in range(2)]
    inputs = np.diag(np.concatenate(fishers))
    optimum = apart(rng, fishers, 6, n)
    zeros = tuple(np.zeros(8) for _ in range(2))
    return Gaussian("paper's case", n, (1, 2, 3), optimum, zeros, inputs=inputs, shifted=inputs, noise=np.eye(2))


def gaussian(n=64_000):
    """Everything coupled: inputs within and between tasks, noise of unequal size that tasks have in common."""
    rng = np.random.default_rng(2)

    def covariance():
        root = rng.normal(size=(20, 30))
        return root @ root.T / 30

    inputs = covariance()
    optimum = apart(rng, np.split(inputs.diagonal(), 2), 6, n)
    origin = near(rng, optimum, 6, n)
    return Gaussian(
        "linear-Gaussian", n, (2, 2, 2), optimum, origin,
        inputs=inputs, shifted=covariance(), noise=np.array([[2.5, 0.6], [0.6, 0.7]]),
    )  # fmt: skip


def logistic(sign, n=64_000):
    """Four exclusive classes; the encoder moves both tasks' logits the same way (c < 0) or opposite ways (c > 0)."""
    rng = np.random.default_rng(4)
    share, x, labels = pictures(rng, 40, 6)
    common = rng.normal(size=(6, 6)) / np.sqrt(6)
    networks = []
    for way in (1, -sign):
        encoder = np.stack([x @ (way * common + 0.4 * rng.normal(size=(6, 6)) / np.sqrt(6)) for _ in range(2)], axis=1)
        decoder = np.zeros((len(x), 2, 4))
        decoder[:, 0, :2] = decoder[:, 1, 2:] = np.stack([np.ones(len(x)), x[:, 0]], axis=1)
        networks.append(LinearNetwork(np.concatenate([encoder, decoder], axis=2)))
    fishers = [np.full(10, 0.3)] * 2
    optimum = apart(rng, fishers, 6, n)
    name = f"logistic, c {'>' if sign > 0 else '<'} 0"
    offsets = tuple(
        logit(labels[:, classes]) - network.outputs(theta[None])[0]
        for classes, network, theta in zip(TASKS, networks, optimum, strict=True)
    )
    origin = near(rng, optimum, 6, n)
    return Labelled(
        name, n, (2, 2, 2), optimum, origin, share=share, labels=labels, networks=tuple(networks), offsets=offsets
    )


def two_layers(n=16_000_000):
    """A network that is not linear in its parameters and whose outputs are wrong even at their best."""
    rng = np.random.default_rng(6)
    share, x, labels = pictures(rng, 60, 2)
    networks = tuple(TwoLayers(x, (2, 2), 2) for _ in TASKS)
    sizes = [rows * columns for rows, columns in networks[0].shapes]
    trunk = sizes[0] + sizes[1]
    common = 2.2 * rng.normal(size=trunk)
    away = rng.choice([-1, 1], trunk) / np.sqrt(0.1 * n)
    optimum = tuple(np.concatenate([common + way * away, 4.4 * rng.normal(size=sizes[2])]) for way in (-0.5, 0.5))
    ratio = labels @ (1 / (len(PRIOR) * (share @ labels)))
    offsets = []
    for classes, network, theta in zip(TASKS, networks, optimum, strict=True):
        wrong = labels[:, classes] + error(rng, network, theta, share, ratio, labels[:, classes])
        offsets.append(logit(wrong) - network.outputs(theta[None])[0])
    origin = near(rng, optimum, trunk, n)
    return Labelled(
        "two layers", n, (0, *sizes[:2]), optimum, origin,
        share=share, labels=labels, networks=networks, offsets=tuple(offsets),
    )  # fmt: skip


def pictures(rng, number, features):
    share = rng.dirichlet(np.full(number, 5.0))
    x = rng.normal(size=(number, features))
    scores = np.log(PRIOR) + x @ rng.normal(size=(features, len(PRIOR))) * 0.8 / np.sqrt(features)
    labels = np.exp(scores)
    return share, x, labels / labels.sum(axis=1, keepdims=True)


def apart(rng, fishers, trunk, n, distance=1.0):
    """Two optima whose trunks differ by about as much as training on n images shakes them."""
    first, second = (rng.normal(size=len(fisher)) for fisher in fishers)
    away = distance * rng.choice([-1, 1], trunk) / np.sqrt(n * np.minimum(fishers[0], fishers[1])[:trunk])
    second[:trunk] = first[:trunk] + away
    return first, second


def near(rng, optimum, trunk, n):
    """Initial weights, common in the trunk, a few standard errors from the optima."""
    common = (optimum[0] + optimum[1])[:trunk] / 2 + 2 * rng.normal(size=trunk) / np.sqrt(n)
    return tuple(
        np.concatenate([common, theta[trunk:] + 2 * rng.normal(size=len(theta) - trunk) / np.sqrt(n)])
        for theta in optimum
    )


def error(rng, network, theta, share, ratio, labels):
    """Wrong probabilities that no change of the parameters reduces, under either distribution of the pictures."""
    cells, size = labels.size, len(theta)
    slopes = np.eye(cells).reshape(cells, *labels.shape)
    jacobian = network.pulled_back(np.broadcast_to(theta, (cells, size)), slopes)
    weight = np.repeat(share, labels.shape[1])
    seen = np.concatenate([jacobian, jacobian * np.repeat(ratio, labels.shape[1])[:, None]], axis=1) * weight[:, None]
    wrong = rng.normal(size=cells)
    basis, _ = np.linalg.qr(seen)
    wrong -= basis @ (basis.T @ wrong)
    wrong = wrong.reshape(labels.shape)
    return 0.5 * wrong / np.max(np.abs(wrong) / np.minimum(labels, 1 - labels))


def softmax(z):
    z = np.exp(z - z.max(axis=-1, keepdims=True))
    return z / z.sum(axis=-1, keepdims=True)


def logit(p):
    return np.log(p) - np.log1p(-p)
