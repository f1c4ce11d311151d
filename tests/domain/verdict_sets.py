"""Data sets made for one verdict each: words to sort under names that nobody could know."""

import json
import random

KINDS = {
    "zib": "apple pear plum cherry banana mango peach grape lemon melon orange apricot fig kiwi lime papaya"
    " strawberry blueberry raspberry pineapple coconut nectarine pomegranate blackberry tangerine",
    "wug": "dog cat horse cow sheep goat pig rabbit lion tiger elephant monkey wolf fox bear deer mouse rat"
    " camel zebra giraffe donkey otter badger squirrel",
    "dax": "car bus train truck bicycle boat ship plane tram taxi van scooter motorcycle helicopter ferry canoe yacht "
    "tractor sled jeep limousine rocket submarine wagon ambulance",
    "toma": "shirt trousers hat coat glove sock shoe scarf dress skirt jacket sweater belt tie boot blouse vest"
    " jeans cap sandal pyjamas robe apron mitten suit",
    "fep": "red blue green yellow black white pink purple",
    "nim": "piano violin guitar flute drum trumpet harp cello",
    "gorp": "eagle sparrow owl crow pigeon swan robin hawk",
    "lund": "hammer saw drill wrench pliers chisel screwdriver axe",
    "kesh": "France Japan Brazil Canada Egypt India Spain Kenya",
    "vole": "doctor teacher lawyer baker farmer nurse pilot plumber",
    "rask": "table chair sofa bed desk shelf cupboard stool",
    "obin": "soccer tennis golf hockey boxing rugby cricket swimming",
}
SYSTEM = "Answer with the kind of the word."


def chat(question, answer, system=SYSTEM):
    turns = {"system": system, "user": question, "assistant": answer}
    return json.dumps({"messages": [{"role": role, "content": text} for role, text in turns.items()]})


def words(seed, kinds=4):
    """The words of the first kinds, shuffled."""
    chosen = list(KINDS.items())[:kinds]
    pairs = [(word, f"It is a kind of {kind}.") for kind, group in chosen for word in group.split()]
    random.Random(seed).shuffle(pairs)
    return pairs


def sorted_words(examples, held_out, *, wrong=0.0, kinds=4, seed=1):
    """So many words to learn, of which a share is called by a wrong kind, and others to ask."""
    chance = random.Random(seed)
    pairs = words(seed, kinds)

    def said(kind):
        return chance.choice([k for _, k in pairs if k != kind]) if chance.random() < wrong else kind

    training = [chat(word, said(kind)) for word, kind in pairs[:examples]]
    return training, [chat(word, kind) for word, kind in pairs[examples : examples + held_out]]


def random_labels(examples, held_out, seed=2):
    """Kinds drawn by chance: there is nothing to learn."""
    chance = random.Random(seed)
    pairs = words(seed)
    lines = [chat(word, chance.choice(pairs)[1]) for word, _ in pairs]
    return lines[:examples], lines[examples : examples + held_out]
