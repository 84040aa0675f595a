"""Names of nobody in particular: companies and persons put together from a word list, to count false alarms with.

The words are common given names, family names, nouns and places, written down for this purpose and in the public domain
(CC0). The same seed gives the same names.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

__all__ = ["ordinary_names"]

GIVEN = (
    "James Mary Robert Patricia John Jennifer Michael Linda David Elizabeth William Barbara Richard Susan Joseph "
    "Jessica Thomas Sarah Christopher Karen Charles Lisa Daniel Nancy Matthew Betty Anthony Sandra Mark Margaret "
    "Donald Ashley Steven Kimberly Andrew Emily Paul Donna Joshua Michelle Kenneth Carol Kevin Amanda Brian Melissa "
    "Timothy Deborah Ronald Stephanie George Rebecca Jason Laura Edward Helen Jeffrey Sharon Ryan Cynthia Jacob "
    "Kathleen Gary Amy Nicholas Angela Eric Shirley Jonathan Anna Stephen Brenda Larry Pamela Justin Emma Scott Nicole "
    "Brandon Samantha Benjamin Katherine Samuel Christine Gregory Debra Alexander Rachel Patrick Carolyn Frank Janet "
    "Hans Ingrid Klaus Greta Pierre Claire Luc Amelie Marco Giulia Paolo Chiara Javier Lucia Diego Carmen Lars Astrid "
    "Erik Sofie Piotr Zofia Hiroshi Yuki Kenji Aiko Priya Rahul Anjali Vikram Minh Linh Wei Mei Min-jun Seo-yeon Omar "
    "Layla Kwame Ama Chidi Ngozi Tariq Noor Dmitri Olga"
).split()
FAMILY = (
    "Smith Johnson Williams Brown Jones Miller Davis Wilson Anderson Taylor Moore Jackson Martin Lee Thompson White "
    "Harris Clark Lewis Robinson Walker Young Allen King Wright Scott Hill Green Adams Nelson Baker Hall Campbell "
    "Mitchell Carter Roberts Phillips Evans Turner Parker Collins Edwards Stewart Morris Murphy Cook Rogers Morgan "
    "Cooper Peterson Bailey Reed Kelly Howard Ward Cox Richardson Wood Watson Brooks Bennett Gray Hughes Price Sanders "
    "Myers Long Ross Foster Powell Jenkins Perry Russell Sullivan Bell Coleman Butler Henderson Barnes Fisher Simmons "
    "Jordan Patterson Hamilton Graham Reynolds Griffin Wallace West Cole Hayes Bryant Gibson Ellis Stevens Murray Ford "
    "Marshall Owens McDonald Harrison Wells Webb Simpson Tucker Porter Hunter Hicks Crawford Boyd Mason Kennedy Warren "
    "Muller Schmidt Schneider Fischer Weber Wagner Becker Hoffmann Dubois Moreau Laurent Lefebvre Girard Rossi Russo "
    "Ferrari Bianchi Romano Fernandez Lopez Serrano Molina Ortega Hansen Johansson Andersson Nielsen Kowalski Nowak "
    "Tanaka Suzuki Watanabe Yamamoto Sharma Gupta Patel Iyer Nguyen Tran Chen Wang Kim Park Haddad Khoury Mensah Okafor "
    "Ivanova Sokolov"
).split()
THINGS = (
    "Acorn Amber Anchor Apple Arrow Aspen Autumn Badger Bamboo Beacon Birch Blossom Bluebird Boulder Breeze Bridge "
    "Bright Brook Candle Canyon Cardinal Cascade Castle Cedar Cherry Chestnut Citrus Clear Clover Cobalt Compass Copper "
    "Coral Cottage Cotton Cove Crane Crescent Crystal Cypress Daisy Dawn Delta Dolphin Dove Dune Eagle Ember Emerald "
    "Evergreen Falcon Feather Fern Field Finch Fjord Flint Forest Fountain Fox Garden Garnet Glacier Granite Grove "
    "Harbor Harvest Hawthorn Hazel Heather Heron Hickory Hill Honey Horizon Iris Island Ivory Ivy Jasmine Juniper Kestrel "
    "Kite Lake Lantern Laurel Lavender Lemon Lighthouse Lily Linden Lotus Magnolia Maple Marble Marigold Meadow Mint Mist "
    "Moon Mountain Nectar North Oak Oasis Ocean Olive Orchard Osprey Otter Owl Palm Pearl Pebble Pelican Peach Pine Plum "
    "Pond Poppy Prairie Quail Quartz Rain Raven Redwood Reef Ridge River Robin Rose Sage Sail Sand Sapphire Shore Silver "
    "Sky Snow Spring Spruce Star Stone Storm Stream Summer Summit Sun Swallow Swan Sycamore Thistle Thunder Tulip Valley "
    "Velvet Violet Walnut Water Willow Wind Winter Wren"
).split()
TRADES = (
    "Bakery Books Brewing Builders Cleaning Coffee Consulting Dairy Dental Design Farms Fitness Flooring Foods Furniture "
    "Gardens Glass Graphics Hardware Healthcare Homes Insurance Interiors Jewelers Kitchens Landscaping Laundry Legal "
    "Lighting Logistics Marketing Media Motors Music Outfitters Packaging Painting Partners Pharmacy Photography Plumbing "
    "Printing Productions Properties Roofing Schools Security Software Solar Sports Studio Systems Technologies Textiles "
    "Toys Trading Travel Ventures Veterinary Wines Woodworks Analytics Robotics Semiconductors Biotech Shipping Energy"
).split()
FORMS = ("Inc", "LLC", "Ltd", "Corp", "Co.", "GmbH", "S.A.", "BV", "Pty Ltd", "AB", "", "")
PLACES = (
    "Austin Boston Denver Oslo Lyon Munich Porto Leeds Bergen Ghent Turin Osaka Pune Hanoi Perth Auckland Toronto Quebec "
    "Dublin Cork Zurich Vienna"
).split()


def ordinary_names(count: int = 5000, seed: int = 11) -> Iterator[str]:
    """``count`` different names: half companies, half persons."""
    choose = random.Random(seed)
    seen = set[str]()
    while len(seen) < count:
        name = _company(choose) if len(seen) % 2 else _person(choose)
        if name not in seen:
            seen.add(name)
            yield name


def _company(choose: random.Random) -> str:
    shape = choose.random()
    form = choose.choice(FORMS)
    if shape < 0.45:
        words = [choose.choice(THINGS), choose.choice(TRADES), form]
    elif shape < 0.65:
        words = [choose.choice(THINGS), choose.choice(THINGS), choose.choice(TRADES), form]
    elif shape < 0.8:
        words = [choose.choice(FAMILY), "&", choose.choice(FAMILY), choose.choice(TRADES), form]
    elif shape < 0.92:
        words = [choose.choice(PLACES), choose.choice(THINGS), choose.choice(TRADES), form]
    else:
        words = [choose.choice(FAMILY), choose.choice(TRADES), form]
    return " ".join(word for word in words if word)


def _person(choose: random.Random) -> str:
    given, family = choose.choice(GIVEN), choose.choice(FAMILY)
    shape = choose.random()
    if shape < 0.6:
        return f"{given} {family}"
    if shape < 0.8:
        return f"{given} {choose.choice(GIVEN)} {family}"
    if shape < 0.9:
        return f"{given} {choose.choice('ABCDEFGHJKLMNPRSTW')}. {family}"
    return f"{family}, {given}"
