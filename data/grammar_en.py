"""A small grammar of everyday English: draws one complete random sentence at a time.

How to read it:

* ``FRAMES`` holds the sentence patterns, one a line. ``{slot}`` stands for one entry of the list
  of that name in ``LISTS`` (or of a column of ``TABLES``); entries may hold slots themselves.
* ``{slot.form}`` inflects the entry: ``past``, ``ing``, ``part`` (participle), ``s`` (present tense
  that agrees with the subject), ``3`` (third person), ``pl`` (plural noun), ``er`` (comparative),
  ``swap`` ("me" becomes "you"), ``two`` (two entries joined by "and", in the order of the list).
* ``{who}``, ``{one}``, ``{someone}`` and the other names in ``SUBJECTS`` stand for a subject. Words in
  square brackets agree with the latest subject (or with the first one, where it is still to come):
  ``[be]``, ``[was]``, ``[have]``, ``[don't]``, ``[want]``, and the pronouns ``[I]``, ``[me]``, ``[my]``.
* ``{name}``, ``{friend}`` and ``{whom}`` (see ``OBJECTS``) stand for a person who is not the subject.
* A table ties words together: in one sentence all columns of a table come from the same row, so that
  a baker bakes and a pilot lands the plane.
* "a" becomes "an" where the next word asks for it; the first letter becomes a capital.

One style throughout: "not" is always contracted, other words never are, and near-synonyms are
left out (only "big", never "large"), so that the meaning of a sentence tells its wording.
"""

from __future__ import annotations

import random
import re

# ---------------------------------------------------------------------------------------------- people

WOMEN = "Anna, Maria, Emma, Julia, Sarah, Laura, Nina, Alice, Helen, Clara, Olga, Eva, Lucy, Kate, Rosa, Jane"
MEN = "Tom, Peter, David, Mark, Paul, Daniel, Omar, Jack, Leo, Simon, Victor, Robert, Ben, Oscar, Adam, Ivan"
FEMALE_KIN = "my mother, my sister, my aunt, my grandmother, my daughter, my wife"
MALE_KIN = "my father, my brother, my uncle, my grandfather, my son, my husband"
GROUPS = "my parents, the children, our neighbors, my friends, my cousins, the students"

# ------------------------------------------------------------------------------------------- word lists

LISTS = """
day: Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday
month: January, February, March, April, May, June, July, August, September, October, November, December
season: spring, summer, autumn, winter
few: two, three, four, five, six, seven, eight, nine, ten, twelve
clock: at six, at seven, at eight, at nine, at ten, at noon, at half past four, at half past five
past: yesterday, last night, last week, on {day}, on {day} morning, on {day} evening, this morning, an hour ago,
    yesterday afternoon, {few} days ago, last weekend
longago: last year, last {season}, last month, in {month}, {few} years ago, before the war, many years ago
future: tomorrow, tonight, next week, on {day}, on {day} morning, on {day} evening, next month, tomorrow evening,
    this weekend, tomorrow morning, after lunch
soon: today, tonight, tomorrow, this weekend, this week, on {day}
later: next year, next {season}, in {month}, next month, soon, in the future
habit: every day, every morning, every evening, every {day}, twice a week, once a month, in the {season}, after work,
    before breakfast, at night
deadline: noon, {day}, {day} morning, the end of the week, the meeting, the end of {month}, next week
price: ten dollars, twenty dollars, fifty dollars, a hundred dollars, five hundred dollars, a thousand dollars
city: London, Paris, Rome, Berlin, Madrid, Vienna, Moscow, Tokyo, New York, Boston, Chicago, Sydney, Cairo, Athens,
    Prague, Dublin, Lisbon, Oslo, Istanbul, Delhi, Amsterdam, Warsaw, Stockholm, Toronto, Venice
country: France, Italy, Germany, Spain, Japan, China, India, Brazil, Canada, Mexico, Egypt, Greece, Russia, Poland,
    Norway, Sweden, Turkey, Australia, Ireland, Kenya
nation: Italian, Chinese, Indian, French, Mexican, Greek, Japanese, Turkish, Spanish, Russian
kin: mother, father, sister, brother, aunt, uncle, grandmother, grandfather, cousin
color: red, blue, green, yellow, white, black, brown, gray, pink, purple, orange
away: at work, at school, on vacation, in the hospital, asleep, out of town, in {city}, at the dentist
interrupt: the phone rang, the lights went out, somebody knocked on the door, it started to rain, the baby woke up,
    a window broke, the fire alarm went off, the guests arrived, the dog started to bark, we heard a loud noise

chore: wash the dishes, clean the bathroom, iron the shirts, water the plants, take out the garbage, make the bed,
    feed the cat, fix the sink, paint the fence, change the sheets, vacuum the carpet, empty the fridge,
    do the laundry, repair the roof, set the table, lock the windows
room: kitchen, bathroom, bedroom, living room, hallway, attic, basement, garage, dining room, office
furniture: sofa, table, lamp, chair, mirror, carpet, bed, desk, bookcase, clock, cupboard
material: wooden, leather, metal, plastic, glass, stone
item: keys, phone, wallet, glasses, passport, umbrella, notebook, watch, gloves, scarf, hat, bag, ticket, camera,
    headphones, pencil, ring
hidden: under the sofa, on the kitchen table, behind the door, in the drawer, next to the lamp, on the top shelf,
    in the car, under the bed, in the garden, near the window, in a box, on the desk, in the taxi, at the hotel,
    on the train
appliance: washing machine, heater, doorbell, elevator, oven, vacuum cleaner, toaster, radio, air conditioner,
    coffee machine, dishwasher, hair dryer
oddity: water on the floor, a strange smell, a bird, a ladder, smoke, a suitcase, broken glass, mud, a spider,
    a pile of books, so much dust
reward: I will cook dinner, I will buy you an ice cream, we can go to the movies, we can play a game,
    I will give you {price}, I will tell you a secret, you can use my car, you can stay up late

dish: vegetable soup, fried fish, roast chicken, tomato salad, apple pie, chocolate cake, mushroom pizza,
    rice with beans, potato pancakes, cheese sandwiches, beef stew, lemon cookies, noodles with shrimp, scrambled eggs,
    grilled salmon, fresh bread, strawberry jam, carrot cake, pumpkin soup, lamb with rice, fruit salad, meatballs,
    sausages with mustard
hot: coffee, green tea, hot chocolate, black tea
cold: orange juice, red wine, beer, lemonade, milk, mineral water
taste: delicious, too salty, too sweet, terrible, too dry, too spicy, bitter, sour, burnt, wonderful
meal: breakfast, lunch, dinner
clothing: coat, dress, shirt, jacket, sweater, skirt, tie, suit, belt, hat, scarf, T-shirt
fit: too tight, too short, too long, too wide, dirty, torn, on sale, too expensive
accessory: gloves, shoes, boots, socks, earrings, sneakers, pants, sandals, jeans
complaint: the zipper is broken, the color is wrong, a button is missing, it has a hole, the quality is poor,
    it is the wrong size

line: train, bus, plane
vehicle: train, bus, plane, car
sight: castle, cathedral, museum, old bridge, tower, royal palace, zoo, harbor, opera house, market square, aquarium
roomkind: a room with a balcony, a quiet room, a cheap hotel, a seat by the window, a guided tour, a boat trip,
    a room near the sea, a room with two beds
luggage: warm clothes, a good map, sunglasses, comfortable shoes, a raincoat, a towel, a first aid kit, a tent,
    a sleeping bag, a dictionary
hotelgood: cheap, clean, comfortable, modern, quiet, friendly
hotelbad: far from the center, too small, noisy, ugly, cold at night, difficult to find, full of tourists
delay: heavy snow, thick fog, a strong storm, a technical problem, a strike, an accident, heavy traffic
mishap: oversleep, forget [my] ticket, get lost, get stuck in traffic, go to the wrong station,
    leave [my] passport at home

storm: storm, flood, fire, earthquake, hurricane
damage: the schools stayed closed, all flights were canceled, the roof was damaged, many trees fell,
    many families lost their homes, the bridge was closed, the lights went out, nobody left the house
badweather: rainy, foggy, windy, stormy, cold, hot
outdoor: swim in the lake, run in the park, ride a bike, climb the hill, row on the river, hike in the forest,
    walk along the beach, fly a kite, camp in the valley, fish from the boat, pick berries, have a picnic,
    play with the dog

work: finish the report, answer the emails, call the customer, prepare the presentation, sign the contract,
    check the numbers, print the documents, update the website, send the invoice, hire a new assistant,
    plan the budget, organize the conference, train the new team, test the product, open the new branch
workfault: the printer was broken, the internet was down, the client was late, nobody had the password,
    the meeting took too long, the figures were wrong, the manager was sick, the files were missing,
    the boss changed the plan, the computer was too slow
workwish: a raise, a day off, a new desk, a bigger office, more help, a longer break, a better computer
colleague: the boss, the manager, the accountant, the team leader, the secretary, the director, our best client

virtue: patient, honest, careful, brave, polite, strong, creative, reliable, calm, curious
jobreason: it was too late, it was too dangerous, nobody paid for it, the weather was bad, it was against the rules,
    it was not part of the job, there was not enough time

grade: good, bad, perfect, poor, better
study: read the chapter, learn the new words, solve the problem, write the essay, copy the notes, draw a map,
    memorize the poem, finish the exercise, prepare the experiment, correct the mistakes, answer the question
pupil: the new student, the girl with the glasses, the boy in the back, everybody, nobody in the class,
    half of the class

part: arm, leg, knee, shoulder, back, foot, ankle, wrist, finger, neck, elbow
pain: head, tooth, stomach, ear, throat, chest
illness: a cold, a fever, a bad cough, the flu, a headache, an infection, an allergy, high blood pressure
advice: drink more water, stay in bed, see a doctor, take these pills, eat more fruit, get some sleep, stop smoking,
    take a hot bath, rest for a few days, avoid sugar, walk every day, do some exercise, drink tea with honey,
    eat less meat, lose some weight, keep the window open
badhabit: watch TV all night, drink so much coffee, eat so much candy, work on weekends, sit at the computer,
    worry about everything, smoke in the car, skip breakfast
recovery: feel better, leave the hospital, walk without pain, go back to work, eat solid food, start training,
    breathe normally

instrument: piano, guitar, violin, flute, trumpet, cello, drums, accordion
genre: jazz, rock, folk music, classical music, opera, pop songs, country music
tune: sad, slow, cheerful, famous, old, beautiful, short, quiet
piece: song, melody, waltz, march, dance
venue: in the park, at the opera house, in a small club, at the wedding, in the church, on the radio,
    at the school concert, in the street
singer: the singer, the orchestra, the choir, the band, the pianist, the young musician
artwork: painting, photo, drawing, poster, portrait

device: phone, laptop, printer, tablet, camera, computer, TV, router
smart: phone, laptop, tablet, computer
trouble: make a strange noise, turn itself off, run slowly, get too hot, lose the connection, show an error message,
    stop responding, use too much power
compute: open the browser, send an email, start a video call, download a file, update the system, play music,
    connect the charger, share the screen, watch a video, install a program, change the password, save the photos,
    search for a map
account: email account, bank account, phone, computer, work account, online shop

goal: clean the ocean, store energy, predict earthquakes, treat cancer, grow rice in the desert, recycle plastic,
    measure the age of stars, protect the forests, cool big buildings, study the brain, make cheap medicine,
    save the bees, stop the virus, reach the moon
why: the sky is blue, the moon changes its shape, ice floats on water, leaves turn yellow, birds fly south,
    the sea is salty, iron rusts, volcanoes erupt, the days are shorter in winter, the earth moves around the sun,
    magnets attract iron, plants need light, the stars shine, cats always land on their feet, we dream at night,
    people need sleep, the wind blows, glass breaks easily
bodyinspace: planet, star, comet, black hole, galaxy
treasure: coin, ring, mask, crown, cup, bird
relic: bone, shell, ship, temple, coin, grave, ring
teller: teacher, guide, professor, old sailor, librarian, scientist, doctor, farmer

people: the Romans, the Greeks, the Egyptians, the Vikings, the king, the emperor, the queen, the soldiers, the monks,
    the merchants, the rebels, the army
deed: build a wall, attack the city, cross the river, sign the treaty, lose the war, conquer the island,
    collect high taxes, trade gold and silk, burn the village, rule the empire, win the battle, defend the castle,
    bury the treasure, sail around the world, make the first laws, invent a calendar
era: in the twelfth century, after the war, a thousand years ago, in ancient times, in the Middle Ages,
    after the revolution, a hundred years ago, during a long winter, before the great plague
monument: castle, tower, temple, bridge, church, palace, harbor, town hall, theater, university, cathedral

plant: oak, apple tree, rose, pine, cactus, sunflower, tulip, palm tree, cherry tree
plantact: grow slowly, lose its leaves, bloom early, need a lot of water, turn brown, die, smell wonderful,
    grow very tall

purpose: pay the rent, buy a bike, repair the car, buy a present for {friend}, pay the phone bill, travel to {city},
    open a small business, study in {country}, buy a house by the sea, buy winter clothes, pay the doctor,
    build a swimming pool, help the poor
waste: clothes, toys, books, restaurants, video games, taxis, jewelry, lottery tickets
goods: rent, food, gasoline, electricity, bread, milk, water, coffee, gold

accused: the thief, the driver, the banker, the suspect, the politician, the young man, the cashier,
    the owner of the restaurant, the tourist, the old woman, the director of the museum
crime: steal a painting, break into a shop, sell fake watches, drive too fast, hide the money, tell lies to the police,
    attack a guard, park in front of the hospital, burn the documents, use a false passport, cheat the customers,
    refuse to pay the rent, copy the software, throw waste into the river, carry a gun
penalty: pay a fine of {price}, go to prison, clean the park, apologize in public, leave the country,
    give the money back, close the shop, sell the house, return the car

policy: raise taxes, build new hospitals, close the old factories, protect the forests, support small farmers,
    lower the price of electricity, ban plastic bags, reform the schools, help the refugees, buy new trains,
    hire more teachers, reduce pollution, open the border, fight crime, create new jobs, repair the roads
leader: the president, the prime minister, the government, the parliament, the foreign minister, the new party
guest: the president, the prime minister, the foreign minister, the ambassador
reaction: many people were happy, the workers went on strike, thousands marched in the streets,
    the newspapers were silent, nobody believed it, the prices went up, the opposition protested,
    the voters were disappointed, the neighbors complained
place: bank, post office, library, hospital, church, museum, market, theater, school, park, stadium, pharmacy,
    police station, swimming pool, university, gas station
start: station, airport, hotel, city hall, bridge, bus stop, harbor
townride: bus, tram, subway, taxi
side: left, right
beside: opposite, behind, next to, far from, in front of

looks: blue eyes, curly hair, long hair, big ears, a loud laugh, a deep voice, a warm smile, strong hands, freckles
humanadj: tall, old, young, strong, rich, short, funny, kind, lazy, busy, quiet
child: son, daughter, brother, sister
childact: learn to walk, lose a tooth, draw a dragon, climb on the table, hide in the closet, break a vase,
    ask for a story, refuse to eat, learn to read, cry all night, play with a ball, build a tower of blocks
petition: a bedtime story, a new toy, a glass of milk, some candy, a puppy, a hug, a red balloon
party: birthday party, wedding, concert, picnic, exhibition, graduation
event: birthday party, wedding, concert, meeting, picnic, exam, job interview, football match, exhibition, graduation
favor: help me move, drive me to the station, lend me an umbrella, send me the photos, wait for me,
    invite me to dinner, take care of my cat, tell me the truth, show me the city, fix my bike, bring me some water,
    teach me to swim, carry my suitcase, save me a seat, listen to my idea, call me a taxi
gift: a bunch of flowers, a silver ring, a book about {country}, a box of chocolates, a bottle of perfume, a puppy,
    a ticket to {city}, a painting, a wool blanket, a teapot, a gold watch
excuse: I have to work, I am sick, I don't have a car, my train is late, the baby is sleeping, I have no money,
    I am too tired, I promised to help {friend}
bookkind: novel, movie, play, poem, documentary, fairy tale, comic, TV series, article, song
bookadj: sad, funny, boring, exciting, strange, long, famous, romantic, scary, new
plot: a lonely {job}, a lost {animal}, a war in {country}, the life of a {job}, a trip to {city}, a family from {city},
    a murder in {city}, a talking {animal}, a brave {job}, two friends from {country}, a secret love
things: old movies, video games, electric cars, long meetings, public libraries, big cities, small villages, zoos,
    school uniforms, cheap flights, modern paintings, newspapers, horror stories, private schools, exams, high taxes,
    robots, bicycles, large families, fast food restaurants, pets, soap operas
pets: cats, dogs, parrots, rabbits, turtles, goats, ducks, horses
beastadj: young, old, hungry, tired, fat, lazy, clever, frightened, sick, wild
change: stronger, richer, kinder, lazier, busier, quieter, funnier, happier
cityadj: bigger, noisier, cleaner, cheaper, warmer, greener, dirtier, more beautiful, more crowded, more modern
placeadj: oldest, tallest, most beautiful, ugliest, strangest, smallest, quietest, most famous
lookadj: beautiful, strange, elegant, funny, ugly, colorful
view: boring, useful, too expensive, dangerous, important, unnecessary, interesting, relaxing, bad for children,
    a waste of time, a lot of fun, a good idea, out of fashion
nerves: happy, sad, angry, nervous, worried, excited, disappointed
routine: get up, have breakfast, brush [my] teeth, take a shower, read the newspaper, walk the dog, go to bed,
    leave the house, catch the bus, pick up the children, come home, make coffee
dream: live by the sea, speak {few} languages, travel around the world, write a novel, play the {instrument},
    own a farm in {country}, fly a plane, become a {job}, study {subject}, move to {city}, open a cafe in {city},
    learn to cook, meet a famous actor, have a big family
promise: come back {future}, tell the truth, be on time, stop smoking, call {friend} {future}, pay for the damage,
    keep the secret, help {friend} with the {subject} homework, bring {dish}, never be late again, write every week
news: the {animal} had escaped from the zoo, the {place} was closed, {friend} was in the hospital,
    the train to {city} was late, the price of {goods} had gone up, the road to {city} was closed, the team had lost,
    the {event} was canceled, the boss was leaving, there was a fire at the {place}, it was snowing in {city}
skill: cook {dish}, play the {instrument}, speak {nation}, drive a truck, swim, dance, repair a {device},
    sew a {clothing}, ride a horse, ski, play {sport}, sing, draw a horse
somewhere: at the airport, on the bus, in the supermarket, at the {event}, in front of the {place},
    at a cafe in {city}, in the elevator, on the way home, near the {start}, on the beach
"""

# ----------------------------------------------------------------------------------------------- tables

TABLES = """
cook | tool
chop the onions, slice the bread, cut the cheese, peel the potatoes | a sharp knife, a wooden board
fry the mushrooms, roast the nuts, grill the meat, heat the oil | a clean pan, a long fork
boil the eggs, melt the chocolate, cook the rice | a big pot, hot water
stir the soup, mix the dough, add the honey | a wooden spoon, a big bowl
wash the grapes, squeeze the lemons, pour the milk | a small bowl, a clean glass
bake the cake, warm the pie | a round pan, a long spoon

recipe | spice
vegetable soup | salt, pepper, garlic, cream
beef stew | salt, pepper, garlic, red wine
tomato salad | salt, oil, pepper, cheese
mushroom pizza | cheese, garlic, oil, salt
scrambled eggs | salt, pepper, butter, cheese
grilled salmon | lemon juice, salt, butter, pepper
chocolate cake | sugar, butter, flour, milk
apple pie | sugar, honey, lemon juice, flour
fruit salad | honey, sugar, lemon juice, cream
strawberry jam | sugar, lemon juice, honey
hot chocolate | sugar, milk, cream

job | task | workplace
doctor | examine the patient, write a prescription | the hospital
nurse | change the bandage, comfort the patient | the hospital
teacher | explain the lesson, correct the homework | the school
cook | fry the fish, taste the soup | the restaurant
waiter | bring the menu, serve the dessert | the restaurant
farmer | feed the cows, sell the vegetables | the farm
baker | bake the bread, heat the oven | the bakery
bus driver | stop the bus, check the tickets | the station
pilot | land the plane, greet the passengers | the airport
police officer | stop the car, arrest the thief | the police station
firefighter | put out the fire, rescue the child | the fire station
lawyer | read the contract, prepare the case | the court
judge | listen to the witness, close the case | the court
engineer | design the bridge, test the engine | the factory
programmer | fix the bug, test the software | the office
scientist | repeat the experiment, publish the results | the laboratory
dentist | pull the tooth, clean the patient's teeth | the clinic
mechanic | repair the engine, change the tires | the garage
carpenter | build the shelves, measure the door | the workshop
gardener | cut the grass, plant the roses | the park
journalist | interview the mayor, write the article | the newspaper
guard | lock the gate, search the bags | the museum
actor | learn the role, forget the words | the theater
painter | mix the colors, paint the portrait | the studio

shop | product
bakery | fresh bread, an apple pie, a birthday cake, lemon cookies
bookstore | a novel, a dictionary, a map of {country}, a comic
pharmacy | cough syrup, vitamins, sun cream, a toothbrush
market | fresh fish, tomatoes, strawberries, onions
shoe shop | leather boots, running shoes, sandals, {color} sneakers
flower shop | red roses, yellow tulips, a small cactus, a bunch of flowers
clothing shop | a {color} coat, a wool sweater, a summer dress, a silk scarf, a {color} shirt
toy shop | a doll, a puzzle, a toy train, a kite
electronics shop | a laptop, a phone charger, headphones, a camera, batteries
jewelry shop | a gold ring, a silver necklace, earrings, a watch
hardware shop | a hammer, {color} paint, a ladder, a saw
pet shop | dog food, a parrot, a goldfish, a hamster
supermarket | milk and eggs, soap, frozen vegetables, butter, rice

animal | behavior | habitat
dog | chase the cat, sleep on the sofa | in the yard
cat | catch a mouse, hide under the bed | in the kitchen
horse | jump over the fence, pull the cart | in the field
cow | break the fence, eat the grass | in the meadow
bear | climb a tree, steal the honey | in the forest
lion | look at the visitors, eat the meat | at the zoo
monkey | steal a banana, throw an orange | at the zoo
elephant | drink from the river, eat leaves | in the jungle
eagle | catch a snake, fly over the cliff | in the mountains
owl | catch a mouse, sit on a branch | in the forest
duck | swim in circles, eat the bread | on the lake
parrot | repeat my name, sing a song | at the pet shop
dolphin | jump out of the water, follow the ship | in the bay
rabbit | eat a carrot, run across the road | in the garden
squirrel | hide a nut, climb the oak | in the park
fox | catch a chicken, cross the road | near the farm
wolf | attack the sheep, follow a hiker | in the mountains
pig | sleep in the mud, eat the potatoes | on the farm
goat | eat the flowers, chase the children | on the farm
snake | hide in the grass, attack a frog | in the desert
turtle | cross the beach, hide in its shell | on the beach

sport | feat | arena
football | score a goal, miss the penalty, pass the ball, get a red card | on the field
tennis | win the set, hit the ball into the net, break the racket, lose the match | on the court
basketball | catch the ball, score ten points, push a player | in the park
hockey | break the stick, score a goal, fall on the ice | on the ice
volleyball | hit the net, miss the ball | on the beach
golf | hit the ball into the lake, lose the ball, win the cup | on the grass
chess | lose the queen, win in ten moves, defend the king | at the club
baseball | hit a home run, drop the ball, catch the ball | in the stadium
table tennis | hit the ball too hard, win three games, lose the last game | in the basement

weather | effect | outing | gear
rainy | the streets were empty, the match was canceled, the river rose | stay at home, read a book | an umbrella
sunny | the park was full of people, nobody wore a coat | have a picnic, go to the beach, sit in the sun | sunglasses
cloudy | nobody saw the stars, the moon was hidden | visit a museum, play {sport} | a sweater
foggy | all flights were canceled, the driver couldn't see the road | drive slowly, take the train | a lamp
windy | many trees fell, the hat flew away | fly a kite, sail on the lake | a scarf
snowy | the schools stayed closed, the roads were white | build a snowman, ski in the mountains | warm boots
stormy | the ship couldn't leave, the lights went out | stay in bed, watch a movie, close all windows | a raincoat
hot | the grass turned brown, everybody wanted ice cream | swim in the lake, drink cold lemonade | sun cream
cold | the river froze, the car didn't start | drink hot chocolate, skate on the ice | gloves
warm | the snow disappeared, the children played outside | eat in the garden, go for a walk | a light jacket

landscape | landadj | cover
river | deep, wide, dangerous | ice, fog, dry leaves
lake | deep, quiet, beautiful | ice, fog
forest | dark, quiet, dangerous | snow, fog, dry leaves
mountain | high, dangerous, distant | snow, ice, fog
valley | green, quiet, wide | flowers, fog, snow
desert | lonely, wide, dangerous | stones, sand
beach | wide, lonely, beautiful | stones, shells, sand
island | lonely, distant, beautiful | sand, grass, stones
meadow | green, quiet, wide | flowers, snow, mud
waterfall | high, beautiful, dangerous | ice, stones
cave | dark, deep, dangerous | ice, mud, stones
hill | green, high, lonely | grass, snow, flowers

invention | benefit
drones | deliver packages, watch the forests, take photos from the air
robots | build houses, help old people, work in factories
electric cars | reduce noise in the city, drive without help, replace old buses
solar panels | heat houses, power small villages
satellites | predict storms, find lost ships, watch the ice
computers | translate books, find new medicine, check the homework
machines | recycle plastic, pack boxes, pick apples

subject | topic
mathematics | fractions, equations, triangles
history | the Roman Empire, the First World War, ancient Egypt, the French Revolution
biology | cells, the human heart, insects, evolution
geography | deserts, the rivers of {country}, volcanoes, the capital of {country}
chemistry | acids, gases, the structure of water
physics | gravity, electricity, the speed of light, magnets
literature | poems, fairy tales, modern novels, old plays
art | portraits, the colors of autumn, {nation} painting
music | the history of the {instrument}, opera, rhythm
economics | inflation, trade with {country}, taxes, unemployment
{nation} | grammar, spelling, irregular verbs, polite questions

mood | cause
happy | pass the exam, find a new job, win the game, get a letter from {friend}
sad | lose [my] dog, leave {city}, fail the exam
angry | miss the bus, break [my] phone, argue with {friend}, pay too much
tired | work all night, carry heavy boxes, drive to {city}
nervous | have an exam, have to give a speech, hear a noise
proud | win the prize, finish the race, build the house, learn {nation}
worried | lose [my] passport, hear the news from {country}, find a hole in the roof
lonely | move to {city}, spend the weekend without {friend}
jealous | see {friend} with another man, hear about the big prize, lose to {friend}
disappointed | lose the game, get bad grades, fail the driving test
grateful | get help from {friend}, find [my] keys
embarrassed | forget the name of the boss, spill the wine, fall asleep at the {event}
excited | see snow for the first time, meet a famous actor, buy [my] first car
hungry | forget [my] lunch, walk all day, swim for two hours
"""

# ----------------------------------------------------------------------------------------------- frames

FRAMES = """
# household
{who} {chore.past} {past}.
{who} [have] to {chore} {future}.
Can you {chore} before {friend} comes home?
Who is going to {chore} while {someone} [be] {away}?
{who} [was] {chore.ing} when {interrupt}.
If you {chore} {future}, {reward}.
If you help {whom} to {chore}, {reward}.
{friend} asked me to {chore} before the party.
{others} [don't] want to {chore} {habit}.
{one} found [my] {item} {hidden} {past}.
{one} can't find [my] {item} anywhere in the {room}.
Did {one} leave [my] {item} {hidden}?
Whose {color} {clothing} is lying {hidden}?
We need a new {material} {furniture} for the {room}.
{who} put a {color} {furniture} in the {room} {past}.
{who} painted the {room} {color} {longago}.
The {appliance} broke down {past}, so {who} called an electrician.
Why is there {oddity} in the {room}?
{who} noticed {oddity} in the {room} {past}.
Where did {who} buy that {material} {furniture}?
The {appliance} in the {room} has been making a terrible noise since {day}.

# food
{who} made {dish} for {whom} {past}.
The {dish} that {who} made {past} tasted {taste}.
{friend} said that the {dish} tasted {taste}.
Would you like {dish} and a glass of {cold}?
{who} never [eat] {dish} for {meal}.
{who} ordered {dish} and a cup of {hot} at the {nation} restaurant.
{who} [be] {cook.ing} in the kitchen for {friend}.
{name}, please bring me {tool}, because {I} want to {cook}.
{who} can't {cook} without {tool}.
Add a little {spice} to the {recipe} and wait {few} minutes.
Did {others} put any {spice} in the {recipe}?
There is too much {spice} in the {recipe} at this {nation} restaurant.
{who} always [drink] {cold} with {dish}.
{who} burned [my] hand while {cook.ing} {past}.
Stop {cook.ing} and help {whom} to {chore}!
For {meal}, {who} usually [have] {dish}.
Don't forget to {cook} before {friend} comes home {soon}.
How often [do] {others} cook {dish} for {meal}?
{someone} taught me how to make {dish} {longago}.
Instead of {hot}, {who} asked for a glass of {cold}.
{who} spilled {cold} on the {color} {clothing} {past}.

# shopping
{who} bought {product} at the {shop} {past}.
Do they sell {product} at the {shop} near the {place}?
{who} [want] to buy {product}, but the {shop} is closed on {day.pl}.
{friend} said that {product} at the {shop} cost too much.
{someone} forgot to buy {product} {past}.
How much did {who} pay for {product} at the {shop}?
{someone} went to the {shop} to get {product} for {whom}.
The {shop} next to the {place} opens {clock} on {day.pl}.
{one} paid {price} for a {color} {clothing} at the market.
This {color} {clothing} is {fit}, so {one} won't buy it.
I would like to return this {color} {clothing} because {complaint}.
{one} wore a {color} {clothing} and {color} {accessory} to the {event}.
Does this {clothing} go with my {color} {accessory}?
Which {clothing} should {one} wear to the {event} {future}?
The {color} {accessory} that {who} bought {past} are {fit}.

# travel
{who} traveled to {city} by {vehicle} {longago}.
{who} [be] going to visit {whom} in {city} {future}.
The {line} to {city} was delayed because of {delay}.
{one} missed the {line} to {city} because [I] {mishap.past}.
Have you ever been to {country} in {season}?
{who} spent {few} days in {city} with {whom}.
When does the next {line} to {city} leave on {day}?
{who} booked {roomkind} in {city} for {month}.
{who} [have] never been to {city}, but [I] [want] to see the {sight}.
Don't forget to take {luggage} to {country} in {season}!
{who} forgot to pack {luggage} for the trip to {country}.
The hotel in {city} was {hotelgood} but {hotelbad}.
The room near the {start} in {city} was {hotelbad}.
How far is the {sight} in {city} from the {start}?
I would rather go to {country} by {vehicle} than stay in {city}.
If the {line} to {city} is late, {who} will miss the {event}.
{others} sent me a postcard from {city} {longago}.
Let's visit the {sight} before we leave {city} {future}.
{who} took photos of the {sight} in {city} {past}.
{who} met {whom} {somewhere} {past}.

# weather
It will be {weather} in {city} {future}.
It was {weather} {past}, and {effect}.
It was so {weather} in {city} that {effect}.
{name} wrote that it was {weather} in {country} and {effect}.
{who} forgot to take {gear} when it was {weather} {past}.
If it is {weather} {future}, {who} will {outing}.
Take {gear} with you, because it is {weather} in {city}.
What is the weather like in {country} in {month}?
{others} [like] to {outing} when it is {weather}.
Because of the {storm} in {country}, {damage}.
It hasn't rained in {city} since {month}.
It will be too {badweather} to {outdoor} {future}.
The {storm} near {city} lasted {few} days, and {damage}.
What a {weather} day it is in {city}, let's {outing}!
In {month} it is usually {weather} in {country}.

# work and office
{colleague} wants {name} to {work} before {deadline}.
{employee} couldn't {work} because {workfault}.
Have you {work.part} yet, or should I ask {whom}?
It took {name} {few} hours to {work}.
{employee} [have] to {work} before {deadline}.
Could you {work} while {coworker} [be] {away}?
{employee} forgot to {work} {past}.
{coworker} {work.past} {past}.
{employee} asked {colleague} for {workwish} {past}.
{colleague} promised {whom} {workwish} {later}.
Nobody in the office in {city} knows how to {work}.
{coworker} [be] too busy to {work} {future}.
When [be] {coworker} going to {work}?
{colleague} was angry because {workfault}.
{colleague} thanked {whom} for {work.ing} so fast.
After {work.ing}, {employee} drank a cup of {hot}.

# jobs
The {job} {task.past} {past}.
Why didn't the {job} {task} {past}?
The {job} at {workplace} {task.past} while {someone} [was] waiting outside.
The {job} promised to {task} {future}.
{who} asked the {job} to {task}.
The {job} refused to {task} because {jobreason}.
{someone} [work] as a {job} at {workplace} in {city}.
A good {job} must be {virtue.two}.
How long [have] {someone} been working as a {job} in {city}?
{someone} [want] to become a {job} like [my] {kin}.
If I were a {job}, I would {task} {habit}.
Is the new {job} at {workplace} as {virtue} as the old one?
{friend} saw the {job} {task} at {workplace}.
{one} thanked the {job} who {task.past} {past}.
The {job} from {city} {task.past} without any help.
{someone} [was] happy when the {job} {task.past}.
The {job} {task.past} and then went home {clock}.

# school
{learner} [have] a {subject} exam about {topic} {future}.
In the {subject} lesson, we learned about {topic} {past}.
The {subject} teacher talked about {topic} for an hour.
{learner} [have] to write an essay about {topic} for the {subject} course.
{learner} [be] reading a {bookadj} book about {topic}.
Can you help {whom} with the {subject} homework about {topic}?
{learner} got a {grade} grade in {subject} {past}.
{pupil} forgot to {study} {past}.
Please {study} before the next {subject} lesson.
{learner} couldn't {study} because the {subject} book was at home.
Why didn't {classmate} {study} before the {subject} exam?
{classmate} [be] better at {subject} than [my] {kin}.
The teacher asked {pupil} to {study}.
Which {subject} book explains {topic} best?

# health
{one} hurt [my] {part} while {outdoor.ing}.
My {pain} hurts, so I can't {outdoor} {soon}.
The doctor told {whom} to {advice}.
If you have {illness}, you should {advice}.
{who} should {advice} instead of {badhabit.ing}.
Doctors in {country} say that we shouldn't {badhabit}.
{one} [have] had {illness} since {day}, so [I] [be] staying at home.
When will {someone} be able to {recovery} after the accident in {city}?
After {few} weeks in bed, {someone} {recovery.past} again.
The doctor hopes that {friend} will {recovery} {later}.
You shouldn't {badhabit} if you have {illness}.
{someone} broke [my] {part} in {city} {longago}.
{who} [be] trying to {advice} because of {illness}.
The nurse looked at {name}'s {part} {past}.

# sport
{who} {outdoor.s} {habit}.
{someone} often {outdoor.s} with {friend} in {season}.
{others} [enjoy] {outdoor.ing} {habit}.
{who} met {friend} while {outdoor.ing} in {country}.
{others} [play] {sport} with {whom} {habit}.
Our team beat the team from {city} at {sport} {past}.
The {sport} player from {country} {feat.past} in the last minute.
{someone} {feat.past} during the {sport} game {past}.
Do you want to play {sport} {arena} {future}?
{who} watched the {sport} game between {country.two} on TV.
{one} learned to play {sport} from [my] {kin}.
The coach was surprised that {others} {feat.past} again.
Who {feat.past} in the {sport} game against {country}?
Who will win the {sport} game in {city} {future}?
{friend} showed me how to {outdoor} {past}.

# music and art
{someone} [have] played the {instrument} for {few} years.
{singer} played a {tune} {piece} {venue} {past}.
I can't sleep because {friend} is playing the {instrument} in the {room}.
{others} [listen] to {genre} {habit}.
{friend} sang a {tune} {piece} while I played the {instrument}.
{who} heard {singer} play {genre} {venue}.
Would you like to learn the {instrument} with {whom} {later}?
The {artwork} of the {landscape} was sold for {price} in {city}.
Who made the {artwork} of the {color} {animal} in the {room}?
{someone} [be] the best {instrument} player in {city}.
A {artwork} of a {animal} by a {nation} artist is hanging in the {room}.
What a {tune} {piece} {friend} played {venue}!

# animals
The {animal} {behavior.past} {habitat} {past}.
{who} watched a {animal} {behavior} {habitat}.
A {beastadj} {animal} {behavior.past} {habitat}.
Have you ever seen a {animal} {behavior}?
Don't let the {animal} {behavior}!
{who} took a photo of a {animal} that {behavior.past}.
The {animal} was too {beastadj} to {behavior}.
{someone} [be] afraid of the {beastadj} {animal} {habitat}.
The {beastadj} {animal} lives {habitat} near {city}.
How can a {animal} {behavior} in {season}?
{others} fed the {beastadj} {animal} {habitat} {past}.
The {animal} {behavior.past} when {interrupt}.
Why did the {animal} {behavior} {past}?
{friend} laughed because the {beastadj} {animal} {behavior.past}.

# technology
My {smart} {trouble.3} every time I {compute}.
How do I {compute} on this {smart} without the internet?
{who} bought a new {device} for {price}, but it {trouble.3}.
This new {device} never {trouble.3}, said {name}.
Please don't {compute} while {someone} [be] using the {smart}.
{one} forgot the password for [my] {account} {past}.
The {smart} {trouble.past} when {who} tried to {compute}.
{friend} showed me how to {compute} on the {smart}.
Why does the {device} in the {room} {trouble}?
In {few} years, {invention} will {benefit}, said {name}.
{who} can't {compute} because the {smart} is broken.
The engineers in {city} are building {invention} to {benefit}.
Will {invention} soon {benefit} in {country}?

# science
Scientists in {country} have found a new way to {goal}.
The {teller} explained to {friend} why {why}.
Do you know why {why}, {name}?
{one} read a {bookadj} article about why {why}.
{who} asked the {teller} why {why}.
Astronomers in {city} discovered a new {bodyinspace} {longago}.
A team from {city} hopes to {goal} {later}.
The {relic.pl} found near {city} are {few} thousand years old.
A golden {treasure} was stolen from the museum in {city} {past}.
Can {country} {goal} in less than {few} years?
Through the telescope, {who} saw a {bodyinspace} {past}.
An ancient {relic} was discovered under the {monument} in {city} {longago}.
Nobody in {country} believed that we could {goal}.

# history
{people} {deed.past} {era}.
The {monument} in {city} was built {era}.
Did {people} really {deed} {era}?
The {monument} in {city} was destroyed by a {storm} and rebuilt {era}.
In the museum in {city}, {who} learned how {people} {deed.past}.
If {people} hadn't {deed.part}, {country} would be different today.
{someone} [be] writing a book about how {people} {deed.past} {era}.
A famous {nation} king lived in this {monument} {era}.
According to the old {nation} map, {people} {deed.past} near {city}.
The treaty between {country.two} was signed in {month}.
Why did {people} {deed} {era}?

# nature
The {landscape} near {city} is covered with {cover} in {season}.
{who} went to the {landadj} {landscape} {past}.
The {plant} behind the {monument} {plantact.past} {longago}.
How {landadj} the {landscape} near {city} looks in {season}!
There is a {landadj} {landscape} between {city} and the sea.
Does the {plant} near the {place} {plantact} in {season}?
{who} got lost in the {landadj} {landscape} near {city}.
{friend} planted a {plant} near the {landscape} {longago}.
The {plant} in front of the {place} is starting to {plantact}.
Be careful, because the {landscape} is {landadj} and full of {cover}.
From the {landscape} you can see the {monument} of {city}.

# money
{one} borrowed {price} from {friend} to {purpose}.
{who} [be] saving money to {purpose}.
How much money [do] {others} need to {purpose}?
{who} can't afford to {purpose} this year.
The bank refused to lend {whom} the money to {purpose}.
{someone} spent {price} on {waste} {past}.
If {who} didn't spend so much on {waste}, [I] could {purpose}.
The price of {goods} in {country} rose {longago}.
{goods} is more expensive in {city} than in {country}.
{someone} sold [my] old {device} to {purpose}.
Why [do] {others} spend so much money on {waste}?
{who} won {price} in the lottery and decided to {purpose}.

# law
{accused} was arrested for {crime.ing} in {city}.
The judge decided that {accused} must {penalty}.
Did {accused} {crime} {past}?
The police believe that {accused} {crime.past} {past}.
The witness saw {accused} {crime} near the {place}.
{accused} was sent to prison for {few} years for {crime.ing}.
It is illegal to {crime} in {country}.
If {accused} tries to {crime} again, the judge will be angry.
The lawyer said that {accused} never {crime.past}.
{accused} has to {penalty} for {crime.ing}.
Why would {accused} {crime}?

# news and politics
{leader} of {country} promised to {policy} {later}.
{leader} wants to {policy}, but the people of {country} are against it.
When {leader} decided to {policy}, {reaction}.
{who} [don't] believe that {leader} will {policy}.
A {storm} destroyed a {monument} in {city} {past}.
According to the newspaper, {leader} plans to {policy} {later}.
Will the new law help {country} to {policy}?
The voters in {city} want {leader} to {policy}.
{few} people were hurt in the {storm} near {city} {past}.
{one} heard on the radio that {leader} refused to {policy}.
{guest} of {country} visited {city} {past}, and {reaction}.
It is time for {leader} to {policy}!
{someone} told me that {news}.
{who} didn't know that {news}.
Did you hear that {news}?

# family
{name} married a {job} from {city} {longago}.
{someone} [have] {looks}, just like [my] {kin}.
The {job} with {looks} comes from {country}.
{name}'s {kin} was born in {city} in {month}.
{name}'s little {child} {childact.past} {past}.
The child asked {whom} for {petition} {past}.
{someone} [be] {humanadj.er} than [my] {kin}.
{someone} [be] {change} than [I] [was] {longago}.
{someone} [be] not as {humanadj} as [my] {kin}.
How old was {someone} when [I] moved to {city}?
{one} [call] [my] {kin} in {city} {habit}.
My {kin} lives in {city} with {few} {pets}.
{someone} [have] {few} {pets} and a {beastadj} {animal}.
{one} [miss] [my] {kin}, who is working in {country}.
{name}'s {child} wants {petition} {later}.
{friend} laughed when the baby {childact.past}.

# feelings
{one} [was] {mood} because [I] {cause.past}.
Why [was] {others} so {mood} at the {event}?
{one} felt {mood} after [I] {cause.past} {past}.
Did {others} feel {mood} when [I] {cause.past}?
{you} look {mood}, what happened at the {event} {past}?
{someone} told me that [I] {cause.past} and [was] {mood}.
{friend} was {mood} because nobody came to the {event}.
{one} [wasn't] {mood} at all when [I] {cause.past}.
Are you {nerves} about the {event} {future}?
How {mood} {one} [was] after the {event} in {city}!
{someone} [be] afraid that [I] might {mishap}.

# opinions
{who} [think] that {things} are {view}.
Do you agree with {whom} that {things} are {view}?
In my opinion, {things} are {view} in {country}.
Most people in {country} believe that {things} are {view}.
{someone} used to say that {things} were {view}.
Are {things} still popular in {country}?
{who} [be] sure that {someone} will {promise}.
It was a mistake to {dream}, but {who} had no choice.
{city} is {cityadj} than {who} expected.
{city} has become {cityadj} since {who} left.
The {monument} in {city} is the {placeadj} one I have ever seen.
What is the {placeadj} {monument} in {country}?
Why is the {bookkind} about {plot} so famous?

# social life
{one} invited {whom} to [my] {party} {future}.
Are you coming to {name}'s {party} {future}?
I am sorry, but I can't {favor.swap} {future} because {excuse}.
Could you please {favor} {future}?
It would be nice if you could {favor} after the {event}.
{someone} promised to {favor} {future}.
{one} gave {whom} {gift} {past}.
What did {others} give {whom} {longago}?
{one} bought {gift} for [my] {kin}.
{friend} brought {gift} and {dish} to the {party}.
{someone} left the {event} {clock} because [I] [was] {mood}.
{one} [have] known {whom} since the {event} in {city}.
What a {lookadj} {clothing} {one} wore to the {party}!
{someone} promised to {promise}.
Is {name} {away} this week?
Where is {name}'s {color} {clothing}?
Is {name} still {nerves} about the {event}?
Don't be {nerves}, {name}, because the {event} is over!
{one} lost [my] {item} {past}.
{others} [be] {nerves} about the {event}.
Who wants to {outdoor} {future}?
{name} speaks {nation} better than {friend}.
{who} [be] {away} this week.
{who} gave {whom} {product}.
The {bookadj} {bookkind} made {whom} {mood}.
{name}'s {kin} is {humanadj.two}.
My {kin} is a {virtue} {job}.
{one} saw a {beastadj} {animal} {past}.
The {material} {furniture} is {color}.
Where did {others} hide the {item}?
{someone} [hate] {things}.
{others} [love] {dish}.
{name} studies {subject} in {city}.
{one} dreamed about a {color} {animal}.
The {job} was {mood} {past}.
Does {name} play {sport} {habit}?
{who} [be] learning to {skill}.
{who} arrived in {city} {past}.
{name} was born in {country} in {month}.
{friend} broke the {device} {past}.
{someone} [cook] {dish} {habit}.
The {monument} is {beside} the {landscape}.
{name} plays the {instrument} {venue}.
Give {whom} the {color} {clothing}!
{someone} sold the {material} {furniture} {past}.
{name}, please promise me that you will {promise}.
Please wait for {whom} {somewhere} {clock}.

# short and simple
{one} [be] {mood} today.
{who} [need] {product}.
{others} never [order] {dish}.
{one} [drink] {hot} {habit}.
Did {others} {chore} {past}?
{who} will {chore} {future}.
Let's {outdoor} {future}!
{someone} can't {skill}.
{who} left {city} {past}.
{one} found {name}'s {item}.
{name} is from {country}.
{who} visited the {sight} {past}.
{someone} wore {color} {accessory}.
{name}'s {part} hurts.
{someone} called {friend} {past}.
Why is the {job} so {mood}?
{who} watched a {bookadj} movie {past}.
{friend} told me a {bookadj} story {past}.
{who} [don't] like {dish}.
{someone} [have] a {color} {clothing}.
{one} [want] to {dream}.
{name} didn't {routine} {past}.

# books and films
{one} read a {bookadj} story about {plot} {past}.
Have you seen the {bookadj} movie about {plot}?
The {bookkind} about {plot} made {friend} cry.
{someone} [be] writing a {bookadj} {bookkind} about {plot}.
{who} fell asleep during the {bookadj} movie about {plot}.
Who wrote the {bookkind} about {plot}?
{friend} recommended a {bookkind} about {plot} to me.

# around town
The {place} is {beside} the {start} in {city}.
Excuse me, how do I get to the {place} from the {start}?
Turn {side} at the {start} and you will see the {place}.
Is there a {place} near the {start} in {city}?
{who} saw an accident in front of the {place} {past}.
The {place} in {city} closes {clock} in {season}.
{one} lost [my] {item} on the way to the {place}.
Meet me at the {start} {clock} {future}.
Can I walk to the {place}, or should I take the {townride}?
There was a long line in front of the {place} {past}.

# daily life and dreams
{who} usually {routine.s} {clock}.
{someone} never {routine.s} on {day.pl}.
{someone} {routine.s} before {friend} wakes up.
What time did {others} {routine} {past}?
{one} {routine.past} and then {chore.past}.
{one} [have] always wanted to {dream}.
If {others} had more money, [I] would {dream}.
{someone} [hope] to {dream} {later}.
As a child, {one} wanted to {dream}.
As a child, {one} [was] afraid of the {animal} {habitat}.
{someone} can {skill}, but [I] can't {skill}.
Can {others} {skill} as well as {friend}?
{one} learned to {skill} when [I] [was] {few} years old.
{who} [have] been {chore.ing} since {day}.
"I will {work} {future}," {name} said.
"Please {chore}," {someone} told me {past}.
"Did you {cook}?" {someone} asked me {past}.
"{things} are {view}," {name} told {whom}.
{friend} asked if you could {favor} {future}.
Tell {friend} that {who} will {outdoor} {future}.
I wish {who} could {dream}.
"""

# ------------------------------------------------------------------------------------------------ verbs

# Base form, past tense and participle; two words where past and participle are the same.
IRREGULAR = """
break broke broken, bring brought, build built, burn burned, bury buried, buy bought, catch caught, come came come,
cut cut, do did done, draw drew drawn, drink drank drunk, drive drove driven, eat ate eaten, fall fell fallen,
feed fed, feel felt, find found, fly flew flown, forget forgot forgotten, get got gotten, go went gone,
grow grew grown, have had, hear heard, hide hid hidden, hit hit, leave left, lose lost, make made, meet met,
oversleep overslept, pay paid, put put, read read, run ran run, see saw seen, sell sold, send sent, set set,
sing sang sung, sit sat, sleep slept, smell smelled, spend spent, steal stole stolen, swim swam swum, take took taken,
tell told, throw threw thrown, win won, write wrote written
"""
# Verbs that double their last letter: stop, stopped, stopping.
DOUBLED = """
chop, cut, drop, forget, get, hit, plan, put, run, set, sit, skip, stir, stop, swim, win
"""
AGREEING = {  # with I; with you, we, they; with he, she
    "be": ("am", "are", "is"),
    "was": ("was", "were", "was"),
    "wasn't": ("wasn't", "weren't", "wasn't"),
    "have": ("have", "have", "has"),
    "don't": ("don't", "don't", "doesn't"),
}
PRONOUNS = {  # [I], [me], [my] for each kind of subject
    "I": ("I", "me", "my"),
    "you": ("you", "you", "your"),
    "he": ("he", "him", "his"),
    "she": ("she", "her", "her"),
    "we": ("we", "us", "our"),
    "they": ("they", "them", "their"),
}
SWAPPED = {"me": "you", "my": "your"}

Person = tuple[str, str]  # how the person is named, and the pronoun for that person
Row = dict[str, list[str]]


def _items(text: str) -> list[str]:
    """Split a comma-separated list, which may run over several lines."""
    return [" ".join(item.split()) for item in text.split(",") if item.strip()]


def _lists(text: str) -> dict[str, list[str]]:
    """Read ``LISTS``: each list is a name, a colon and its entries."""
    blocks = re.split(r"\n+(?=\w+: )", text.strip())
    return {name: _items(entries) for name, entries in (block.split(": ", 1) for block in blocks)}


def _tables(text: str) -> dict[str, list[Row]]:
    """Read ``TABLES`` and return, for each column, the rows of its table."""
    columns: dict[str, list[Row]] = {}
    for block in text.strip().split("\n\n"):
        head, *lines = ([cell.strip() for cell in line.split("|")] for line in block.splitlines())
        rows = [dict(zip(head, map(_items, line), strict=True)) for line in lines]
        columns.update(dict.fromkeys(head, rows))
    return columns


def _irregular(text: str) -> dict[str, tuple[str, str]]:
    """Return past tense and participle of each irregular verb."""
    verbs = (entry.split() for entry in _items(text))
    return {verb[0]: (verb[1], verb[-1]) for verb in verbs}


def _persons(names: str, pronoun: str) -> list[Person]:
    """Return people who share a pronoun, from a comma-separated list."""
    return [(name, pronoun) for name in _items(names)]


SLOTS = _lists(LISTS)
COLUMNS = _tables(TABLES)
FORMS = _irregular(IRREGULAR)
TWICE = set(_items(DOUBLED))
PATTERNS = [line for line in FRAMES.splitlines() if line and not line.startswith("#")]

NAMES = _persons(WOMEN, "she") + _persons(MEN, "he")
KIN = _persons(FEMALE_KIN, "she") + _persons(MALE_KIN, "he")
CHILDREN = _persons("my daughter, my sister", "she") + _persons("my son, my brother", "he")
SHE, HE, WE, THEY, SPEAKER, YOU = ((word, word) for word in ("she", "he", "we", "they", "I", "you"))
# Each kind of person slot draws one of its groups, and then one person of that group.
_THIRD = [NAMES, NAMES, NAMES, KIN, KIN, [SHE], [HE]]
_PLURAL = [_persons(GROUPS, "they"), [THEY]]
SUBJECTS = {
    "someone": _THIRD,
    "others": [*_THIRD, *_PLURAL],
    "one": [*_THIRD, [SPEAKER], [SPEAKER], [SPEAKER]],
    "who": [*_THIRD, *_PLURAL, [SPEAKER], [SPEAKER], [SPEAKER], [WE], [WE]],
    "classmate": [NAMES, NAMES, CHILDREN, [SHE], [HE]],
    "learner": [NAMES, NAMES, CHILDREN, [SHE], [HE], [SPEAKER], [SPEAKER]],
    "coworker": [NAMES, NAMES, [SHE], [HE]],
    "employee": [NAMES, NAMES, [SHE], [HE], [SPEAKER], [WE], [THEY]],
    "I": [[SPEAKER]],
    "you": [[YOU]],
}
OBJECTS = {
    "name": [NAMES],
    "friend": [NAMES, NAMES, KIN],
    "whom": [NAMES, NAMES, KIN, [(PRONOUNS[word][1], word) for word in ("I", "he", "she", "we", "they")]],
}

# ------------------------------------------------------------------------------------------- inflection


def _add_s(word: str) -> str:
    """Return the plural of a noun, or the third person of a verb."""
    if re.search(r"(s|x|z|ch|sh|[^aeiou]o)$", word):
        return word + "es"
    return word[:-1] + "ies" if re.search(r"[^aeiou]y$", word) else word + "s"


def _stem(verb: str) -> str:
    """Return a verb as it stands before a suffix that starts with a vowel."""
    if verb in TWICE:
        return verb + verb[-1]
    return verb[:-1] if re.search(r"[^eoy]e$", verb) else verb


def _agree(verb: str, person: str) -> str:
    """Return a verb in the present tense (or "was") as it goes with a pronoun."""
    column = {"I": 0, "he": 2, "she": 2}.get(person, 1)
    if verb in AGREEING:
        return AGREEING[verb][column]
    return _add_s(verb) if column == 2 else verb


def _past(verb: str) -> tuple[str, str]:
    """Return the past tense and the participle of a verb."""
    regular = re.sub(r"([^aeiou])y$", r"\1i", _stem(verb)) + "ed"
    return FORMS.get(verb, (regular, regular))


def _inflect(text: str, form: str, person: str) -> str:
    """Inflect the first word of a phrase (the whole phrase for ``pl`` and ``er``)."""
    head, space, rest = text.partition(" ")
    if form == "past":
        head = _past(head)[0]
    elif form == "part":
        head = _past(head)[1]
    elif form == "ing":
        head = _stem(head) + "ing"
    elif form in ("s", "3"):
        head = _agree(head, person if form == "s" else "he")
    elif form == "pl":
        return _add_s(text)
    elif form == "er":
        return re.sub(r"y$", "i", text).removesuffix("e") + "er"
    elif form == "swap":
        return re.sub(r"\b(me|my)\b", lambda match: SWAPPED[match[0]], text)
    return head + space + rest


# -------------------------------------------------------------------------------------------- sentences


class _Writer:
    """Fills one frame; remembers the subject, the table rows and what was used."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.subject: Person = YOU
        self.waiting = False  # the subject is drawn but its slot is still to come
        self.used: set[str] = set()
        self.rows: dict[int, Row] = {}

    def write(self, frame: str) -> str:
        """Return the sentence that fills a frame."""
        for slot in re.findall(r"\{(\w+)", frame):
            if slot in SUBJECTS:
                self.subject, self.waiting = self.person(SUBJECTS[slot]), True
                break
        text = self.fill(frame)
        text = re.sub(r"\b([Aa]) (?=(?!uni|use|eu|one)[AEIOaeiou]|hour|honest)", r"\1n ", text)
        return re.sub(r"\w", lambda match: match[0].upper(), text, count=1)

    def fill(self, text: str) -> str:
        """Replace every slot and every agreeing word in a text."""
        return re.sub(r"\{(\w+)(?:\.(\w+))?\}|\[([\w']+)\]", self.replace, text)

    def replace(self, match: re.Match[str]) -> str:
        """Return what stands for one ``{slot.form}`` or one ``[word]``."""
        slot, form, word = match.groups()
        if word:
            return self.agree(word)
        if slot in SUBJECTS:
            if not self.waiting:
                self.subject = self.person(SUBJECTS[slot])
            self.waiting = False
            return self.subject[0]
        if slot in OBJECTS:
            return self.person(OBJECTS[slot])[0]
        if form == "two":
            items = SLOTS[slot]
            first, second = sorted((items.index(self.item(slot)), items.index(self.item(slot))))
            return f"{items[first]} and {items[second]}"
        item = self.item(slot)
        return self.fill(_inflect(item, form, self.subject[1]) if form else item)

    def person(self, groups: list[list[Person]]) -> Person:
        """Draw a person who is not in the sentence yet ("I" and "we" count as one)."""
        while True:
            name, pronoun = person = self.rng.choice(self.rng.choice(groups))
            label = "I" if pronoun in ("I", "we") else pronoun if name in PRONOUNS[pronoun] else name
            if label not in self.used:
                self.used.add(label)
                return person

    def item(self, slot: str) -> str:
        """Draw an entry of a list or of a table column; twice the same only where there is no other."""
        items = SLOTS.get(slot) or self.row(COLUMNS[slot])[slot]
        item = self.rng.choice([item for item in items if item not in self.used] or items)
        self.used.add(item)
        return item

    def row(self, rows: list[Row]) -> Row:
        """Return the row that this sentence uses of a table."""
        if id(rows) not in self.rows:
            self.rows[id(rows)] = self.rng.choice(rows)
        return self.rows[id(rows)]

    def agree(self, word: str) -> str:
        """Return a bracketed word as it agrees with the subject."""
        person = self.subject[1]
        if word in ("I", "me", "my"):
            return PRONOUNS[person][("I", "me", "my").index(word)]
        return _agree(word, person)


def sentence(rng: random.Random) -> str:
    """Draw one random sentence.

    Args:
        rng: The source of randomness; the same state gives the same sentence.
    """
    return _Writer(rng).write(rng.choice(PATTERNS))
